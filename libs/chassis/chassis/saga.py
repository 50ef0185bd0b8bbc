"""Sagas: a story told once as a generator, performed by one of two drivers.

The story yields `Step`s and performs nothing. `Saga.run_inline` performs them in this process; `register` makes the
same story a Dapr Workflow whose activity performs them one by one with durable timers between. Steps are idempotent
by business key, so a story can be driven again from its start, by anyone, at any time, and ends in the same place.

A step answers with a final outcome, or with `Unknown`: the story never sees that one. The inline driver hands over;
the durable driver asks again on `chassis.retry_delays`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, Literal, Protocol, TypeVar

import structlog
from dapr.ext.workflow import DaprWorkflowContext, WorkflowActivityContext, WorkflowRuntime
from pydantic import BaseModel, ConfigDict, TypeAdapter

from chassis.ids import now
from chassis.observation import observed
from chassis.retry_delays import recheck_delay
from chassis.tasks import Tasks
from chassis.telemetry import continued

log = structlog.get_logger()

Outcome = TypeVar("Outcome")
Story = Generator["Step", Any, Outcome]

_RENEW_HISTORY_AFTER = 50  # unknown outcomes in one run of the workflow before its history is begun anew


class Value(BaseModel):
    """What goes into a step and comes out of it: immutable, and JSON between durable steps."""

    model_config = ConfigDict(frozen=True)


class Unknown(Value):
    """The step's outcome could not be learned yet. It may have happened; it is never a refusal. `pending` says that
    nothing went wrong: it only takes its time."""

    kind: Literal["unknown"] = "unknown"
    reason: str = ""
    pending: bool = False


class Reference(Value):
    """What a saga is about: enough to load it again, whose it is, and the trace it belongs to."""

    tenant: str
    tenant_name: str = ""
    id: str
    traceparent: str = ""


class Phase(StrEnum):
    GIVEN = "given"
    WHEN = "when"
    THEN = "then"
    COMPENSATION = "compensation"


class Kind(StrEnum):
    """The word by which the story tells a step; a compensation is its "but"."""

    GIVEN = "Given"
    WHEN = "When"
    THEN = "Then"
    AND = "And"
    BUT = "But"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One side effect to perform. Its title names it, for whoever performs it too; `argument` is what it needs beside
    the saga's reference."""

    title: str
    kind: Kind = Kind.WHEN
    phase: Phase = Phase.WHEN
    argument: Value | None = None


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One line of a timeline. `status` is completed, unknown, failed or skipped."""

    step: str
    phase: str
    status: str
    started_at: datetime
    duration_ms: float
    error: str = ""


@dataclass
class Run:
    """One drive of a saga: what its steps have to say, until a step commits it together with its effect."""

    reference: Any
    known: Any = None  # what the inline driver's caller has just written, and the first step need not read
    waiting: list[StepRecord] = field(default_factory=list[StepRecord])
    _under_way: tuple[Step, datetime, float] | None = None
    _drained: bool = False

    def begin(self, step: Step) -> None:
        self._under_way, self._drained = (step, now(), time.perf_counter()), False

    def drain(self) -> list[StepRecord]:
        """Everything recorded so far, the step under way as completed: for the transaction that completes it, which may
        be run again. Nothing where the step came too late."""
        if self._under_way is None:
            return []
        self._drained = True
        return [*self.waiting, _record(*self._under_way, "completed")]

    def end(self, outcome: Any, *, broken: bool) -> float:
        """Close the step under way; how many milliseconds it took."""
        if self._under_way is None:
            raise RuntimeError("no step has begun")
        known = ("unknown", outcome.reason) if isinstance(outcome, Unknown) else ("completed", "")
        record = _record(*self._under_way, *known)
        if self._drained and not broken:
            self.waiting = []  # all of it is on record
        else:
            self.waiting.append(record)
        self._under_way = None
        return record.duration_ms

    def skip(self, titles: tuple[str, ...]) -> None:
        for title in titles:
            skipped = StepRecord(step=title, phase=Phase.THEN, status="skipped", started_at=now(), duration_ms=0)
            self.waiting.append(skipped)


def _record(step: Step, at: datetime, began: float, status: str, error: str = "") -> StepRecord:
    took = round((time.perf_counter() - began) * 1000, 3)
    return StepRecord(step=step.title, phase=step.phase, status=status, started_at=at, duration_ms=took, error=error)


Perform = Callable[[Any, Any, Run], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Performer:
    """How one step is done: `perform(reference, argument, run)`, and the types that cross the workflow's JSON."""

    perform: Perform
    outcome: Any
    argument: type[Value] | None = None


@dataclass(frozen=True)
class HandedOver:
    """The inline driver stopped without knowing; the durable one goes on."""

    reason: str


R = TypeVar("R", bound=Reference)
R_contra = TypeVar("R_contra", bound=Reference, contravariant=True)


class Successor(Protocol[R_contra]):
    """What `chassis.takeover` is to a saga: `hand_over` is called by the inline driver that gives up, `waiting` before
    the durable one sleeps."""

    async def hand_over(self, reference: R_contra, reason: str, /) -> None: ...

    async def waiting(self, reference: R_contra, delay: timedelta, /) -> None: ...


@dataclass(kw_only=True)
class Saga(Generic[R]):
    """A story and everything needed to drive it. `flush` gets the records that no step's own transaction has taken."""

    name: str
    story: Callable[[R], Story[Any]]
    reference: type[R]
    performers: Mapping[str, Performer]
    flush: Callable[[R, list[StepRecord]], Awaitable[None]]
    takeover: Successor[R]
    tasks: Tasks
    skipped_by_compensation: tuple[str, ...] = ()
    step_seconds: float = 8.0

    async def run_inline(self, reference: R, *, known: Any = None) -> Any:
        """Drive the story here, for `step_seconds` in all. Answers its outcome, or `HandedOver`."""
        run = Run(reference=reference, known=known)
        ends = time.monotonic() + self.step_seconds
        story = self.story(reference)
        outcome: Any = None
        try:
            while True:
                step = story.send(outcome)
                outcome = await self.perform(step, run, within=max(0.0, ends - time.monotonic()))
                if isinstance(outcome, Unknown):
                    await self.takeover.hand_over(reference, outcome.reason)
                    return HandedOver(outcome.reason)
        except StopIteration as told:
            return told.value
        finally:
            await self._flush(run)

    async def perform(self, step: Step, run: Run, *, within: float) -> Any:
        """Do one step. Past its time it is left to itself (a cancelled call is a hang-up) and its answer is ignored."""
        if step.phase is Phase.COMPENSATION:
            run.skip(self.skipped_by_compensation)
        run.begin(step)
        performer = self.performers[step.title]
        with observed(self.name, run.reference, step) as observation:
            doing = self.tasks.spawn(
                _quietly(performer.perform(run.reference, step.argument, run)), name=f"{self.name}.{step.title}"
            )
            await asyncio.wait({doing}, timeout=within)
            if not doing.done():
                doing.add_done_callback(_ended_late)
            outcome, error = doing.result() if doing.done() else (Unknown(reason="timeout"), None)
            took = run.end(outcome, broken=error is not None)
            failed = outcome.reason if isinstance(outcome, Unknown) and not outcome.pending else ""
            observation.ended(took, failed=failed, error=error)
        return outcome

    async def perform_durably(self, call: dict[str, Any]) -> Any:
        """One activity of the workflow: the step, and what must be on record before the workflow sleeps."""
        reference = self.reference.model_validate(call["reference"])
        performer = self.performers[call["step"]]
        argument = performer.argument.model_validate(call["argument"]) if performer.argument else None
        kind = Kind(call.get("kind", Kind.WHEN))  # of a run that began before there were kinds
        step = Step(title=call["step"], kind=kind, phase=Phase(call["phase"]), argument=argument)
        run = Run(reference=reference)
        with continued(reference.traceparent):
            outcome = await self.perform(step, run, within=self.step_seconds)
            await self._flush(run)
            if isinstance(outcome, Unknown):
                await self.takeover.waiting(reference, recheck_delay(call["attempt"]))
        return outcome.model_dump(mode="json")

    def register(self, runtime: WorkflowRuntime, loop: asyncio.AbstractEventLoop) -> None:
        """Make the story a workflow. Its steps run on the service's own `loop`: one engine, one writer, one client."""

        async def perform_step(_ctx: WorkflowActivityContext, call: dict[str, Any]) -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.perform_durably(call), loop))

        def tell(ctx: DaprWorkflowContext, given: dict[str, Any]) -> Generator[Any, Any, Any]:
            return (yield from self._tell(ctx, given, perform_step))

        runtime.register_activity(perform_step, name=f"{self.name}_step")
        runtime.register_workflow(tell, name=self.name)

    def _tell(self, ctx: DaprWorkflowContext, given: dict[str, Any], perform_step: Any) -> Generator[Any, Any, Any]:
        """The workflow: replayed from history by the engine, so no I/O, clock, random or logging in here."""
        attempt, unknowns = int(given["attempt"]), 0
        story = self.story(self.reference.model_validate(given["reference"]))
        outcome: Any = None
        while True:
            try:
                step = story.send(outcome)
            except StopIteration as told:
                return told.value.model_dump(mode="json") if isinstance(told.value, Value) else None
            while (outcome := self._decode(step, (yield self._call(ctx, perform_step, step, given, attempt)))) is None:
                yield ctx.create_timer(recheck_delay(attempt))
                attempt, unknowns = attempt + 1, unknowns + 1
                if unknowns == _RENEW_HISTORY_AFTER:
                    ctx.continue_as_new({**given, "attempt": attempt})
                    return None

    def _call(
        self, ctx: DaprWorkflowContext, perform_step: Any, step: Step, given: dict[str, Any], attempt: int
    ) -> Any:
        argument = step.argument.model_dump(mode="json") if step.argument else None
        call = {"reference": given["reference"], "step": step.title, "kind": step.kind.value, "argument": argument}
        return ctx.call_activity(perform_step, input={**call, "phase": step.phase.value, "attempt": attempt})

    def _decode(self, step: Step, answer: Any) -> Any:
        """The step's outcome as a value, None while it is unknown."""
        if answer.get("kind") == "unknown":
            return None
        return TypeAdapter(self.performers[step.title].outcome).validate_python(answer)

    async def _flush(self, run: Run) -> None:
        if run.waiting:
            records, run.waiting = run.waiting, []
            await self.flush(run.reference, records)


async def _quietly(doing: Awaitable[Any]) -> tuple[Any, Exception | None]:
    """A step that breaks has an outcome nobody knows: it may have happened before it broke."""
    try:
        return await doing, None
    except Exception as error:  # noqa: BLE001  whatever it is, it is told by who waits for the step
        return Unknown(reason=type(error).__name__), error


def _ended_late(doing: asyncio.Task[tuple[Any, Exception | None]]) -> None:
    if not doing.cancelled() and (error := doing.result()[1]) is not None:
        log.error("step.broke_late", exc_info=error)
