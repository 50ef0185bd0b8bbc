"""Sagas: a story told once as a generator, performed by one of two drivers.

The story yields `Step`s and performs nothing. `Saga.run_inline` performs them in this process; `register` makes the
same story a Dapr Workflow whose activity performs them one by one with durable timers between. Steps are idempotent
by business key, so a story can be driven again from its start, by anyone, at any time, and ends in the same place.

A step answers with a final outcome, or with `Unknown`: the story never sees that one. The inline driver hands over;
the durable driver asks again on `chassis.schedule`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, Literal, Protocol, TypeVar

import structlog
from dapr.ext.workflow import DaprWorkflowContext, WorkflowActivityContext, WorkflowRuntime
from pydantic import BaseModel, ConfigDict, TypeAdapter

from chassis.ids import now
from chassis.schedule import recheck_delay
from chassis.tasks import Tasks
from chassis.telemetry import continued, meter, told_of, tracer

log = structlog.get_logger()

Outcome = TypeVar("Outcome")
Story = Generator["Step", Any, Outcome]

_steps_total = meter.create_counter("workflow_steps_total", description="Steps performed, by outcome")
_step_ms = meter.create_histogram("workflow_step_duration_ms", unit="ms", description="How long a step took")

_RENEW_HISTORY_AFTER = 50  # unknown outcomes in one run of the workflow before its history is begun anew


class Value(BaseModel):
    """What goes into a step and comes out of it: immutable, and JSON between durable steps."""

    model_config = ConfigDict(frozen=True)


class Unknown(Value):
    """The step's outcome could not be learned yet. It may have happened; it is never a refusal."""

    kind: Literal["unknown"] = "unknown"
    reason: str = ""


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


@dataclass(frozen=True, kw_only=True)
class Step:
    """One side effect to perform: its name, and the value it needs beside the saga's reference."""

    name: str
    argument: Value | None = None
    phase: Phase = Phase.WHEN


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

    saga: str
    reference: Any
    known: Any = None  # what the inline driver's caller has just written, and the first step need not read
    waiting: list[StepRecord] = field(default_factory=list[StepRecord])
    _step: Step | None = None
    _started: tuple[datetime, float] | None = None

    def begin(self, step: Step) -> None:
        self._step, self._started = step, (now(), time.perf_counter())

    def drain(self) -> list[StepRecord]:
        """Everything recorded so far, the step under way as completed: for the transaction that completes it."""
        self.end("completed")
        records, self.waiting = self.waiting, []
        return records

    def end(self, status: str, error: str = "") -> None:
        """Close the step under way, unless `drain` has closed it already."""
        if self._step is None or self._started is None:
            return
        at, began = self._started
        record = StepRecord(
            step=self._step.name,
            phase=self._step.phase,
            status=status,
            started_at=at,
            duration_ms=round((time.perf_counter() - began) * 1000, 3),
            error=error,
        )
        self.waiting.append(record)
        labels = {"workflow": self.saga, "step": record.step, "phase": record.phase, "status": status}
        _steps_total.add(1, labels)
        _step_ms.record(record.duration_ms, labels)
        self._step = self._started = None

    def skip(self, steps: tuple[str, ...]) -> None:
        for name in steps:
            self.waiting.append(
                StepRecord(step=name, phase=Phase.THEN, status="skipped", started_at=now(), duration_ms=0)
            )
            _steps_total.add(1, {"workflow": self.saga, "step": name, "phase": Phase.THEN, "status": "skipped"})


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
        run = Run(saga=self.name, reference=reference, known=known)
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
        performer = self.performers[step.name]
        with (
            tracer.start_as_current_span(f"{self.name}.{step.name}", attributes={"step.phase": step.phase}) as span,
            self._told_of(run.reference, step),
        ):
            doing = self.tasks.spawn(
                _quietly(performer.perform(run.reference, step.argument, run)), name=f"{self.name}.{step.name}"
            )
            await asyncio.wait({doing}, timeout=within)
            outcome = doing.result() if doing.done() else Unknown(reason="timeout")
            unknown = isinstance(outcome, Unknown)
            span.set_attribute("step.status", "unknown" if unknown else "completed")
        run.end("unknown", outcome.reason) if unknown else run.end("completed")
        return outcome

    async def perform_durably(self, call: dict[str, Any]) -> Any:
        """One activity of the workflow: the step, and what must be on record before the workflow sleeps."""
        reference = self.reference.model_validate(call["reference"])
        performer = self.performers[call["step"]]
        argument = performer.argument.model_validate(call["argument"]) if performer.argument else None
        step = Step(name=call["step"], argument=argument, phase=Phase(call["phase"]))
        run = Run(saga=self.name, reference=reference)
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
        call = {"reference": given["reference"], "step": step.name, "argument": argument, "phase": step.phase.value}
        return ctx.call_activity(perform_step, input={**call, "attempt": attempt})

    def _decode(self, step: Step, answer: Any) -> Any:
        """The step's outcome as a value, None while it is unknown."""
        if answer.get("kind") == "unknown":
            return None
        return TypeAdapter(self.performers[step.name].outcome).validate_python(answer)

    def _told_of(self, reference: R, step: Step) -> AbstractContextManager[None]:
        return told_of(
            tenant=reference.tenant,
            tenant_name=reference.tenant_name,
            workflow=self.name,
            execution=reference.id,
            step=step.name,
        )

    async def _flush(self, run: Run) -> None:
        if run.waiting:
            records, run.waiting = run.waiting, []
            await self.flush(run.reference, records)


async def _quietly(doing: Awaitable[Any]) -> Any:
    """A step that breaks has an outcome nobody knows: it may have happened before it broke."""
    try:
        return await doing
    except Exception as error:
        log.exception("step.failed")
        return Unknown(reason=type(error).__name__)
