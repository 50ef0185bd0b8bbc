"""The two drivers: one story, performed here, or told to an engine by hand."""

import asyncio
from collections.abc import Generator
from datetime import timedelta
from typing import Any, Literal, cast

import pytest
from dapr.ext.workflow import DaprWorkflowContext

from chassis.retry_delays import recheck_delay
from chassis.saga import (
    HandedOver,
    Kind,
    Performer,
    Phase,
    Reference,
    Run,
    Saga,
    Step,
    StepRecord,
    Story,
    Unknown,
    Value,
)
from chassis.tasks import Tasks

REF = Reference(tenant="t-1", id="r-1")
GIVEN = {"reference": REF.model_dump(mode="json"), "attempt": 0}


class Yes(Value):
    kind: Literal["yes"] = "yes"
    number: int = 0


class No(Value):
    kind: Literal["no"] = "no"


class Done(Value):
    kind: Literal["done"] = "done"
    number: int = 0


def story(_ref: Reference) -> Story[Done]:
    match (yield Step(title="ask")):
        case Yes() as yes:
            return (yield Step(title="keep", kind=Kind.THEN, phase=Phase.THEN, argument=yes))
        case _:
            return (yield Step(title="undo", kind=Kind.BUT, phase=Phase.COMPENSATION))


class World:
    """What the steps do, and what the saga was told to put on record."""

    def __init__(self) -> None:
        self.asking: list[Any] = [Yes(number=1)]
        self.gate = asyncio.Event()
        self.slow = False
        self.late: list[Any] = []
        self.records: list[StepRecord] = []
        self.taken: list[StepRecord] = []
        self.handed_over: list[str] = []
        self.waits: list[timedelta] = []

    async def ask(self, _ref: Reference, _argument: None, run: Run) -> Any:
        if self.slow:
            await self.gate.wait()
            self.late += [Yes(), run.drain()]
        answer = self.asking.pop(0) if len(self.asking) > 1 else self.asking[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def keep(self, _ref: Reference, yes: Yes, run: Run) -> Done:
        self.taken += run.drain()
        return Done(number=yes.number)

    async def undo(self, _ref: Reference, _argument: None, _run: Run) -> Done:
        return Done(number=-1)

    async def flush(self, _ref: Reference, records: list[StepRecord]) -> None:
        self.records += records

    async def hand_over(self, _ref: Reference, reason: str) -> None:
        self.handed_over.append(reason)

    async def waiting(self, _ref: Reference, delay: timedelta) -> None:
        self.waits.append(delay)


def saga_in(world: World, *, seconds: float = 8.0, tasks: Tasks | None = None) -> Saga[Reference]:
    return Saga(
        name="test",
        story=story,
        reference=Reference,
        performers={
            "ask": Performer(perform=world.ask, outcome=Yes | No),
            "keep": Performer(perform=world.keep, outcome=Done, argument=Yes),
            "undo": Performer(perform=world.undo, outcome=Done),
        },
        flush=world.flush,
        takeover=world,
        tasks=tasks or Tasks(),
        skipped_by_compensation=("keep",),
        step_seconds=seconds,
    )


@pytest.fixture
def world() -> World:
    return World()


async def test_the_inline_driver_answers_the_storys_outcome(world: World):
    assert await saga_in(world).run_inline(REF) == Done(number=1)

    assert world.handed_over == []
    assert [(line.step, line.status) for line in world.taken] == [("ask", "completed"), ("keep", "completed")]
    assert world.records == [], "all of it went with a step's own transaction"


async def test_a_compensation_says_what_it_skipped(world: World):
    world.asking = [No()]

    assert await saga_in(world).run_inline(REF) == Done(number=-1)

    assert [(line.step, line.phase, line.status) for line in world.records] == [
        ("ask", "when", "completed"),
        ("keep", "then", "skipped"),
        ("undo", "compensation", "completed"),
    ]


async def test_an_unknown_outcome_is_handed_over_and_never_seen_by_the_story(world: World):
    world.asking = [Unknown(reason="no answer")]

    assert await saga_in(world).run_inline(REF) == HandedOver("no answer")

    assert world.handed_over == ["no answer"]
    assert [(line.step, line.status, line.error) for line in world.records] == [("ask", "unknown", "no answer")]


async def test_a_step_that_breaks_has_an_unknown_outcome(world: World):
    world.asking = [RuntimeError("secret detail")]

    assert await saga_in(world).run_inline(REF) == HandedOver("RuntimeError")

    assert "secret" not in str(world.records)


async def test_past_its_time_a_step_is_left_running_and_its_answer_ignored(world: World):
    tasks = Tasks()
    world.slow = True

    assert await saga_in(world, seconds=0.01, tasks=tasks).run_inline(REF) == HandedOver("timeout")

    assert world.late == []
    world.gate.set()
    await tasks.drain(within=5)
    assert world.late == [Yes(), []], "it went on to its end, and had nothing more to record"
    assert [(line.step, line.status, line.error) for line in world.records] == [("ask", "unknown", "timeout")]
    assert world.taken == []


async def test_a_transaction_that_is_run_again_records_the_same_and_one_that_fails_records_nothing(world: World):
    async def commit(_ref: Reference, _argument: None, run: Run) -> Any:
        first, second = run.drain(), run.drain()
        assert [line.step for line in first] == [line.step for line in second] == ["ask"]
        raise RuntimeError("the commit failed")

    saga = saga_in(world)
    saga.performers = {"ask": Performer(perform=commit, outcome=Yes | No)}
    await saga.run_inline(REF)

    assert [(line.step, line.status, line.error) for line in world.records] == [("ask", "unknown", "RuntimeError")]


async def test_a_durable_step_answers_as_json_and_flushes_what_no_transaction_took(world: World):
    answer = await saga_in(world).perform_durably(call("ask"))

    assert answer == {"kind": "yes", "number": 1}
    assert [line.step for line in world.records] == ["ask"]
    assert world.waits == []


async def test_a_durable_step_with_an_argument_gets_it_as_a_value(world: World):
    answer = await saga_in(world).perform_durably(call("keep", argument={"kind": "yes", "number": 7}, phase="then"))

    assert answer == {"kind": "done", "number": 7}


async def test_a_durable_step_without_an_answer_says_how_long_the_engine_will_sleep(world: World):
    world.asking = [Unknown()]

    answer = await saga_in(world).perform_durably(call("ask", attempt=2))

    assert answer["kind"] == "unknown"
    assert world.waits == [recheck_delay(2)]


def call(step: str, *, argument: Any = None, phase: str = "when", attempt: int = 0) -> dict[str, Any]:
    reference = REF.model_dump(mode="json")
    return {"reference": reference, "step": step, "argument": argument, "phase": phase, "attempt": attempt}


class Engine:
    """A workflow context played by hand: it notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.continued: list[Any] = []

    def call_activity(self, _activity: Any, *, input: dict[str, Any]) -> Any:  # noqa: A002  the engine's own name
        self.asked.append((input["step"], input["attempt"]))
        return input

    def create_timer(self, delay: timedelta) -> Any:
        self.asked.append(delay)
        return delay

    def continue_as_new(self, given: dict[str, Any]) -> None:
        self.continued.append(given)


def told(world: World, engine: Engine, given: dict[str, Any] = GIVEN) -> Generator[Any, Any, Any]:
    return saga_in(world)._tell(cast("DaprWorkflowContext", engine), given, object())  # pyright: ignore[reportPrivateUsage]


def play(telling: Generator[Any, Any, Any], *answers: Any) -> Any:
    """What the workflow returns when each thing it waits for is answered in turn."""
    next(telling)
    try:
        for answer in answers:
            telling.send(answer)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("still waiting")


UNKNOWN = {"kind": "unknown", "reason": ""}


def test_the_durable_driver_performs_step_by_step_and_returns_the_outcome(world: World):
    engine = Engine()

    assert play(told(world, engine), {"kind": "yes", "number": 3}, {"kind": "done", "number": 3}) == {
        "kind": "done",
        "number": 3,
    }

    assert engine.asked == [("ask", 0), ("keep", 0)]


def test_the_durable_driver_takes_the_other_branch_too(world: World):
    engine = Engine()

    play(told(world, engine), {"kind": "no"}, {"kind": "done", "number": -1})

    assert [step for step, _ in engine.asked] == ["ask", "undo"]


def test_each_unknown_outcome_sleeps_on_the_schedule_and_asks_the_same_step_again(world: World):
    engine = Engine()

    play(told(world, engine), UNKNOWN, None, UNKNOWN, None, {"kind": "no"}, {"kind": "done"})

    seconds = [timedelta(seconds=2), timedelta(seconds=5)]
    assert engine.asked == [("ask", 0), seconds[0], ("ask", 1), seconds[1], ("ask", 2), ("undo", 2)]


def test_replayed_from_its_history_it_asks_for_the_same_things(world: World):
    engines = [Engine(), Engine()]

    for engine in engines:
        play(told(world, engine), UNKNOWN, None, {"kind": "yes", "number": 3}, {"kind": "done", "number": 3})

    assert engines[0].asked == engines[1].asked


def test_after_fifty_unknowns_history_is_begun_anew_where_the_schedule_stood(world: World):
    engine = Engine()

    assert play(told(world, engine, {**GIVEN, "attempt": 4}), *([UNKNOWN, None] * 50)) is None

    assert engine.continued == [{**GIVEN, "attempt": 54}]


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(0, 2), (1, 5), (2, 10), (3, 20), (4, 30), (123, 30), (124, 600), (261, 600), (262, 3600), (10_000, 3600)],
)
def test_the_schedule_is_the_documented_one(attempt: int, seconds: int):
    assert recheck_delay(attempt) == timedelta(seconds=seconds)


def test_half_minutes_last_an_hour_and_ten_minutes_the_rest_of_a_day():
    first_day = sum((recheck_delay(attempt) for attempt in range(262)), timedelta(0))

    assert timedelta(hours=23, minutes=50) < first_day < timedelta(hours=24, minutes=10)
