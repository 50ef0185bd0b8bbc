"""The inline driver: a story performed here. The durable one: test_workflow.py."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import pytest

from chassis.problems import Unavailable
from chassis.retry_delays import recheck_delay
from chassis.saga import HandedOver, Incident, Performer, Run, Saga, StepRecord
from chassis.story import Failed, Kind, OnError, Phase, Reference, Retry, Step, Story, Together, Unknown, Value
from chassis.tasks import Tasks

REF = Reference(tenant="t-1", id="r-1")


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
            return (yield Step(title="undo", kind=Kind.BUT, phase=Phase.COMPENSATION, skips=("keep",)))


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


# --- policies ---


class Shop:
    """Two steps at the same time, then one more; what became of each the story gives back."""

    def __init__(self, *, policy: Mapping[str, Any] | None = None, **answers: Any) -> None:
        self.policy = policy or {}
        self.answers = answers
        self.busy = self.most = 0
        self.records: list[StepRecord] = []
        self.incidents: list[Incident] = []
        self.handed_over: list[str] = []

    def story(self, _ref: Reference) -> Story[Any]:
        pair = yield Together(Step(title="pay", **self.policy), Step(title="pack", **self.policy))
        if any(isinstance(outcome, Failed) for outcome in pair):
            return pair, (yield Step(title="apologise", skips=("send", "thank")))
        return pair, (yield Step(title="send"))

    def perform(self, title: str) -> Performer:
        async def performing(_ref: Reference, _argument: None, _run: Run) -> Any:
            self.busy += 1
            self.most = max(self.most, self.busy)
            await asyncio.sleep(0)
            self.busy -= 1
            answer = self.answers.get(title, Done())
            if isinstance(answer, Exception):
                raise answer
            return answer

        return Performer(perform=performing, outcome=Done)

    async def drive(self, *, seconds: float = 8.0) -> Any:
        async def flush(_ref: Reference, records: list[StepRecord]) -> None:
            self.records += records

        async def incident(_ref: Reference, incident: Incident) -> None:
            self.incidents.append(incident)

        saga = Saga(
            name="shop",
            story=self.story,
            reference=Reference,
            performers={title: self.perform(title) for title in ("pay", "pack", "send", "apologise")},
            flush=flush,
            incident=incident,
            takeover=self,
            tasks=Tasks(),
            step_seconds=seconds,
        )
        return await saga.run_inline(REF)

    async def hand_over(self, _ref: Reference, reason: str) -> None:
        self.handed_over.append(reason)

    async def waiting(self, _ref: Reference, _delay: timedelta) -> None:
        return

    def told(self) -> list[tuple[str, str]]:
        return [(line.step, line.status) for line in self.records]


GO_ON = {"on_error": OnError.CONTINUE}


async def test_steps_together_are_performed_at_the_same_time_and_their_outcomes_come_in_order():
    shop = Shop(pay=Done(number=1), pack=Done(number=2))

    assert await shop.drive() == ((Done(number=1), Done(number=2)), Done())

    assert shop.most == 2
    assert shop.told() == [("pay", "completed"), ("pack", "completed"), ("send", "completed")]


async def test_one_of_a_pair_without_an_outcome_hands_over_and_the_other_is_on_record():
    shop = Shop(pack=Unknown(reason="no answer"))

    assert await shop.drive() == HandedOver("no answer")

    assert shop.told() == [("pay", "completed"), ("pack", "unknown")]


async def test_a_step_that_may_fail_is_an_incident_the_story_goes_on_and_skips_what_it_will_not_do():
    shop = Shop(pack=RuntimeError("a secret"), policy=GO_ON)

    assert await shop.drive() == ((Done(), Failed(reason="RuntimeError")), Done())

    assert [(one.step.title, one.error, one.stops) for one in shop.incidents] == [("pack", "RuntimeError", False)]
    assert shop.told() == [
        ("pay", "completed"),
        ("pack", "failed"),
        ("send", "skipped"),
        ("thank", "skipped"),
        ("apologise", "completed"),
    ]


@pytest.mark.parametrize(
    ("broken", "policy"),
    [
        (RuntimeError(), {}),
        (Failed(reason="RuntimeError"), {}),
        (RuntimeError(), GO_ON | {"retry": Retry(attempts=2)}),
        (RuntimeError(), {"phase": Phase.COMPENSATION}),
    ],
)
async def test_inline_nothing_is_repeated_what_failed_is_handed_over(broken: Any, policy: dict[str, Any]):
    shop = Shop(pay=broken, policy=policy)

    assert await shop.drive() == HandedOver("RuntimeError")

    assert (shop.handed_over, shop.incidents) == (["RuntimeError"], [])


async def test_a_database_that_is_down_is_no_step_that_failed():
    shop = Shop(pay=Unavailable("database"), policy=GO_ON)

    assert await shop.drive() == HandedOver("Unavailable")

    assert shop.incidents == []


@pytest.mark.parametrize(("of_step", "of_all"), [(0.01, 8.0), (30.0, 0.01)])
async def test_a_step_has_its_own_time_and_never_more_than_is_left(world: World, of_step: float, of_all: float):
    def waiting(_ref: Reference) -> Story[Any]:
        return (yield Step(title="ask", timeout=of_step))

    world.slow = True
    saga = saga_in(world, seconds=of_all)
    saga.story = waiting

    assert await saga.run_inline(REF) == HandedOver("timeout")


def test_a_policy_is_data_with_the_defaults_of_the_document_and_so_many_steps_go_together_as_can():
    assert Step(title="any").timeout == 30.0
    assert (Step(title="any").retry.attempts, Step(title="any").on_error) == (1, OnError.STOP)
    with pytest.raises(ValueError, match="not 5"):
        Together(*(Step(title=str(number)) for number in range(5)))


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(0, 2), (1, 5), (2, 10), (3, 20), (4, 30), (123, 30), (124, 600), (261, 600), (262, 3600), (10_000, 3600)],
)
def test_the_schedule_is_the_documented_one(attempt: int, seconds: int):
    assert recheck_delay(attempt) == timedelta(seconds=seconds)


def test_half_minutes_last_an_hour_and_ten_minutes_the_rest_of_a_day():
    first_day = sum((recheck_delay(attempt) for attempt in range(262)), timedelta(0))

    assert timedelta(hours=23, minutes=50) < first_day < timedelta(hours=24, minutes=10)
