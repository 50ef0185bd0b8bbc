"""The durable driver: a story of four steps, a pair of them at once and a compensation of two, told to an engine
by hand; and what each step says as an activity. What a real engine makes of it: tests/integration/test_sagas.py."""

from collections.abc import Generator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from dapr.ext.workflow import DaprWorkflowContext, TaskFailedError

from chassis.ids import now
from chassis.retry_delays import recheck_delay
from chassis.saga import Incident, Performer, Run, Saga, StepRecord
from chassis.story import Failed, Kind, OnError, Phase, Reference, Retry, Step, Story, Together, Unknown, Value
from chassis.tasks import Tasks
from chassis.workflow import COMPENSATION_FAILED, StepFailed, Workflow, _Told  # pyright: ignore[reportPrivateUsage]

REF = Reference(tenant="t-1", id="r-1")
GIVEN = {"reference": REF.model_dump(mode="json"), "attempt": 0}
INSIST = Retry(attempts=3, first_delay=60, factor=2)


class Yes(Value):
    kind: Literal["yes"] = "yes"
    number: int = 0


class No(Value):
    kind: Literal["no"] = "no"


def parcel(_ref: Reference) -> Story[Yes | No]:
    """Taken from the shelf, paid and packed, then sent; what can't be sent is paid back and unpacked."""
    yield Step(title="take", kind=Kind.GIVEN, phase=Phase.GIVEN)
    paid, packed = yield Together(Step(title="pay"), Step(title="pack", on_error=OnError.CONTINUE, retry=INSIST))
    if isinstance(packed, Yes) and isinstance((sent := (yield _send(paid))), Yes):
        return sent
    yield Together(_undo("pay_back"), _undo("unpack"))
    return No()


def _send(paid: Yes) -> Step:
    return Step(title="send", kind=Kind.THEN, phase=Phase.THEN, argument=paid, timeout=5)


def _undo(title: str) -> Step:
    return Step(title=title, kind=Kind.BUT, phase=Phase.COMPENSATION, retry=INSIST, skips=("send",))


class World:
    def __init__(self) -> None:
        self.answer: Any = Yes(number=1)
        self.seen: list[tuple[str, Any]] = []
        self.records: list[StepRecord] = []
        self.incidents: list[Incident] = []
        self.waits: list[timedelta] = []

    def perform(self, title: str) -> Performer:
        async def performing(_ref: Reference, argument: Any, _run: Run) -> Any:
            self.seen.append((title, argument))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return Performer(perform=performing, outcome=Yes | No, argument=Yes if title == "send" else None)

    async def flush(self, _ref: Reference, records: list[StepRecord]) -> None:
        self.records += records

    async def incident(self, _ref: Reference, incident: Incident) -> None:
        self.incidents.append(incident)

    async def hand_over(self, _ref: Reference, _reason: str) -> None:
        return

    async def waiting(self, _ref: Reference, delay: timedelta) -> None:
        self.waits.append(delay)


@pytest.fixture
def world() -> World:
    return World()


def saga_in(world: World) -> Saga[Reference]:
    titles = ("take", "pay", "pack", "send", "pay_back", "unpack")
    return Saga(
        name="parcel",
        story=parcel,
        reference=Reference,
        performers={title: world.perform(title) for title in titles},
        flush=world.flush,
        incident=world.incident,
        takeover=world,
        tasks=Tasks(),
    )


# --- an activity ---


def call(step: str, *, phase: str = "when", attempt: int = 0, **more: Any) -> dict[str, Any]:
    return {**GIVEN, "step": step, "argument": None, "phase": phase, "attempt": attempt, **more}


async def test_a_step_answers_as_json_and_writes_down_what_no_transaction_took(world: World):
    assert await Workflow(saga_in(world)).perform(call("take")) == {"kind": "yes", "number": 1}

    assert [(line.step, line.status) for line in world.records] == [("take", "completed")]
    assert world.waits == []


async def test_a_step_with_an_argument_gets_it_as_a_value(world: World):
    await Workflow(saga_in(world)).perform(call("send", argument={"kind": "yes", "number": 7}, phase="then"))

    assert world.seen == [("send", Yes(number=7))]


async def test_a_step_without_an_answer_says_how_long_the_engine_will_sleep(world: World):
    world.answer = Unknown()

    asked = call("pay", attempt=2, retry=INSIST.model_dump())
    assert (await Workflow(saga_in(world)).perform(asked))["kind"] == "unknown"

    assert world.waits == [recheck_delay(2)]


@pytest.mark.parametrize(
    ("policy", "status", "wait"),
    [
        ({}, "unknown", recheck_delay(0)),
        ({"phase": "compensation"}, "failed", recheck_delay(0)),
        ({"onError": "continue", "retry": INSIST.model_dump()}, "failed", timedelta(seconds=120)),
    ],
)
@pytest.mark.parametrize("broken", [RuntimeError("a secret"), Failed(reason="RuntimeError")])
async def test_a_step_that_failed_is_raised_for_the_engine_to_repeat_and_the_sweep_stays_away(
    world: World, policy: dict[str, Any], status: str, wait: timedelta, broken: Any
):
    world.answer = broken

    with pytest.raises(StepFailed, match=r"^RuntimeError$"):
        await Workflow(saga_in(world)).perform(call("pay") | policy)

    assert [(line.status, line.error) for line in world.records] == [(status, "RuntimeError")]
    assert world.waits == [wait]


# --- the story ---


class Engine:
    """A workflow context played by hand: it notes what it is asked for."""

    def __init__(self) -> None:
        self.current_utc_datetime = now().replace(tzinfo=None)
        self.asked: list[Any] = []
        self.repeated: dict[str, int] = {}
        self.reported: list[dict[str, Any]] = []
        self.continued: list[Any] = []

    def call_activity(self, activity: str, *, input: dict[str, Any], retry_policy: Any) -> Any:  # noqa: A002  the engine's own name
        if activity == "report":
            self.reported.append(input)
            return "report"
        self.asked.append(input["step"])
        if retry_policy is not None:
            self.repeated[input["step"]] = retry_policy.max_number_of_attempts
        return input["step"]

    def create_timer(self, delay: timedelta) -> Any:
        self.asked.append(delay)
        return delay

    def continue_as_new(self, given: dict[str, Any]) -> None:
        self.continued.append(given)


YES, NO, UNKNOWN = {"kind": "yes", "number": 3}, {"kind": "no"}, {"kind": "unknown", "reason": ""}


def failed(kind: str = "StepFailed") -> TaskFailedError:
    details = SimpleNamespace(errorMessage="refused", errorType=kind, stackTrace=SimpleNamespace(value=""))
    return TaskFailedError("activity failed", cast("Any", details))


def told(world: World, engine: Engine, given: dict[str, Any]) -> Generator[Any, Any, Any]:
    saga = saga_in(world)
    return _Told(saga, saga.story, cast("DaprWorkflowContext", engine), given, "perform", "report").tell()


def play(world: World, engine: Engine, *answers: Any, given: dict[str, Any] = GIVEN) -> Any:
    """What the workflow returns when each thing it waits for is answered in turn."""
    telling = told(world, engine, given)
    next(telling)
    try:
        for answer in answers:
            telling.throw(answer) if isinstance(answer, Exception) else telling.send(answer)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("still waiting")


def test_the_pair_is_asked_for_at_once_and_the_story_ends_with_its_outcome(world: World):
    engine = Engine()
    telling = told(world, engine, GIVEN)
    next(telling)

    telling.send(YES)
    assert engine.asked == ["take", "pay", "pack"], "both, before either has answered"
    telling.send(YES)
    telling.send(YES)
    with pytest.raises(StopIteration) as ended:
        telling.send(YES)

    assert ended.value.value == YES
    assert engine.repeated == {"pack": 3}


def test_a_no_is_compensated_by_two_at_once(world: World):
    engine = Engine()

    assert play(world, engine, YES, YES, YES, NO, YES, YES) == {"kind": "no"}

    assert engine.asked == ["take", "pay", "pack", "send", "pay_back", "unpack"]


def test_each_unknown_outcome_sleeps_on_the_schedule_and_only_what_has_none_is_asked_again(world: World):
    engine = Engine()

    play(world, engine, YES, UNKNOWN, YES, None, UNKNOWN, None, YES, YES)

    waits = [recheck_delay(0), recheck_delay(1)]
    assert engine.asked == ["take", "pay", "pack", waits[0], "pay", waits[1], "pay", "send"]


@pytest.mark.parametrize("broken", [failed(), failed("OperationalError")])
def test_a_step_that_may_not_fail_is_asked_about_again_however_it_broke(world: World, broken: TaskFailedError):
    engine = Engine()

    assert play(world, engine, broken, None, YES, YES, YES, YES) == YES

    assert engine.asked[:3] == ["take", recheck_delay(0), "take"]
    assert engine.reported == []


def test_what_failed_for_good_is_an_incident_and_the_story_goes_on_where_that_is_the_policy(world: World):
    engine = Engine()

    assert play(world, engine, YES, YES, failed(), None, YES, YES) == {"kind": "no"}

    [incident] = engine.reported
    assert (incident["step"], incident["error"], incident["onError"]) == ("pack", "refused", "continue")
    assert incident["at"] == engine.current_utc_datetime.isoformat()
    assert engine.asked[-2:] == ["pay_back", "unpack"], "nothing was sent"


def test_a_compensation_that_failed_for_good_ends_the_run_once_the_other_is_through(world: World):
    engine = Engine()

    assert play(world, engine, YES, YES, YES, NO, failed(), None, YES) == COMPENSATION_FAILED

    assert [(incident["step"], incident["onError"]) for incident in engine.reported] == [("pay_back", "stop")]


def test_what_broke_around_a_compensation_is_no_refusal_of_it(world: World):
    engine = Engine()

    assert play(world, engine, YES, YES, YES, NO, failed("OperationalError"), YES, None, YES) == {"kind": "no"}

    assert engine.reported == []


async def test_an_incident_is_told_with_the_moment_that_the_engine_knows(world: World):
    engine = Engine()
    play(world, engine, YES, YES, YES, NO, failed(), None, YES)

    await Workflow(saga_in(world)).report(engine.reported[0])

    [incident] = world.incidents
    assert (incident.step.title, incident.error, incident.stops) == ("pay_back", "refused", True)
    assert incident.at.replace(tzinfo=None) == engine.current_utc_datetime


def test_replayed_from_its_history_it_asks_for_the_same_things(world: World):
    engines = [Engine(), Engine()]

    for engine in engines:
        play(world, engine, YES, UNKNOWN, YES, None, YES, NO, YES, YES)

    assert engines[0].asked == engines[1].asked


def test_after_fifty_unknowns_history_is_begun_anew_where_the_schedule_stood(world: World):
    engine = Engine()

    assert play(world, engine, *([UNKNOWN, None] * 50), given={**GIVEN, "attempt": 4}) is None

    assert engine.continued == [{**GIVEN, "attempt": 54}]
