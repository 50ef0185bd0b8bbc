"""Sagas: a story (`chassis.story`) told once as a generator, performed by one of two drivers.

`Saga.run_inline` performs its steps in this process; `chassis.workflow` makes the same story a Dapr Workflow whose
activity performs them with durable timers between. Steps are idempotent by business key, so a story can be driven again
from its start, by anyone, at any time, and ends in the same place.

A step answers with a final outcome, with `Unknown`, or it fails. The story is never told of an unknown outcome, and of
a failed step only where that is its policy. The inline driver repeats nothing: it hands over. The durable driver asks
again on `chassis.retry_delays`, and repeats what failed as the step's policy says.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import structlog

from chassis.db import DATABASE_DOWN
from chassis.ids import now
from chassis.observation import observed
from chassis.problems import Unavailable
from chassis.story import Failed, OnError, Phase, Reference, Step, Story, Together, Unknown, Value
from chassis.tasks import Tasks

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One line of a timeline. `status` is completed, unknown, failed or skipped."""

    step: str
    phase: str
    status: str
    started_at: datetime
    duration_ms: float
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Incident:
    """A step that failed for good. `stops`: nothing drives its saga any more, until a person has it tried again; else
    the story went on without it. Told again, it is the same one by its saga, step and `at`."""

    step: Step
    error: str
    at: datetime

    @property
    def stops(self) -> bool:
        return self.step.on_error is OnError.STOP


@dataclass
class Run:
    """One drive of a saga: what its steps have to say, until a step commits it together with its effect."""

    reference: Any
    known: Any = None  # what the inline driver's caller has just written, and the first step need not read
    waiting: list[StepRecord] = field(default_factory=list[StepRecord])
    _under_way: tuple[Step, datetime, float] | None = None
    _drained: bool = False

    def begin(self, step: Step) -> None:
        for title in step.skips:
            skipped = StepRecord(step=title, phase=Phase.THEN, status="skipped", started_at=now(), duration_ms=0)
            self.waiting.append(skipped)
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
        record = _record(*self._under_way, *_status(self._under_way[0], outcome))
        if self._drained and not broken:
            self.waiting = []  # all of it is on record
        else:
            self.waiting.append(record)
        self._under_way = None
        return record.duration_ms


def _status(step: Step, outcome: Any) -> tuple[str, str]:
    """As the timeline has it, and why: what may not fail has no outcome yet, however it broke."""
    if not isinstance(outcome, Unknown | Failed):
        return "completed", ""
    return "failed" if isinstance(outcome, Failed) and step.may_fail else "unknown", outcome.reason


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
Tell = Callable[[R], Story[Any]]


class Successor(Protocol[R_contra]):
    """What `chassis.takeover` is to a saga: `hand_over` is called by the inline driver that gives up, `waiting` before
    the durable one sleeps."""

    async def hand_over(self, reference: R_contra, reason: str, /) -> None: ...

    async def waiting(self, reference: R_contra, delay: timedelta, /) -> None: ...


@dataclass(kw_only=True)
class Saga(Generic[R]):
    """A story and everything needed to drive it. `flush` gets the records that no step's own transaction has taken,
    `incident` what failed for good. No step takes longer than `step_seconds`, nor do all of an inline run together.

    A durable run goes on with the `version` of the story that it began with: `others` has those before, and the
    next one a release before it is the latest. An inline run is over before its
    process is, and is always told this one.
    """

    name: str
    story: Tell[R]
    reference: type[R]
    performers: Mapping[str, Performer]
    flush: Callable[[R, list[StepRecord]], Awaitable[None]]
    takeover: Successor[R]
    tasks: Tasks
    incident: Callable[[R, Incident], Awaitable[None]] | None = None  # where no step may fail
    step_seconds: float = 30.0
    version: str = "1"
    others: Mapping[str, Tell[R]] = field(default_factory=dict[str, Tell[R]])

    async def run_inline(self, reference: R, *, known: Any = None) -> Any:
        """Drive the story here, for `step_seconds` in all. Answers its outcome, or `HandedOver`."""
        run = Run(reference=reference, known=known)
        ends = time.monotonic() + self.step_seconds
        story = self.story(reference)
        outcome: Any = None
        try:
            while True:
                asked = story.send(outcome)
                together = isinstance(asked, Together)
                outcome = await (self._together(asked, run, ends) if together else self._inline(asked, run, ends))
                if isinstance(outcome, HandedOver):
                    await self.takeover.hand_over(reference, outcome.reason)
                    return outcome
        except StopIteration as told:
            return told.value
        finally:
            await self.write_down(run)

    async def _together(self, asked: Together, run: Run, ends: float) -> Any:
        """Each in a run of its own: what one of them drains is not another's."""
        runs = [Run(reference=run.reference, known=run.known) for _ in asked.steps]
        pairs = zip(asked.steps, runs, strict=True)
        outcomes = await asyncio.gather(*(self._inline(step, own, ends) for step, own in pairs))
        run.waiting += [record for own in runs for record in own.waiting]
        return next((one for one in outcomes if isinstance(one, HandedOver)), tuple(outcomes))

    async def _inline(self, step: Step, run: Run, ends: float) -> Any:
        """What the story is told of the step, or HandedOver."""
        outcome = await self.perform(step, run, within=max(0.0, min(step.timeout, ends - time.monotonic())))
        if not isinstance(outcome, Unknown | Failed):
            return outcome
        if isinstance(outcome, Failed) and step.on_error is OnError.CONTINUE and step.retry.attempts == 1:
            await self.report(run.reference, Incident(step=step, error=outcome.reason, at=now()))
            return outcome
        return HandedOver(outcome.reason)

    async def perform(self, step: Step, run: Run, *, within: float) -> Any:
        """Do one step. Past its time it is left to itself (a cancelled call is a hang-up) and its answer is ignored."""
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
            observation.ended(took, failed=_why(outcome), error=error)
        return outcome

    async def report(self, reference: R, incident: Incident) -> None:
        """May be told twice: what takes it counts it once."""
        if self.incident is not None:
            await self.incident(reference, incident)
        event = "saga.compensation_failed" if incident.stops else "saga.step_given_up"
        log.error(event, workflow=self.name, saga=reference.id, step=incident.step.title, error=incident.error)

    async def write_down(self, run: Run) -> None:
        if run.waiting:
            records, run.waiting = run.waiting, []
            await self.flush(run.reference, records)


def _why(outcome: Any) -> str:
    """Empty where nothing went wrong."""
    if isinstance(outcome, Failed) or (isinstance(outcome, Unknown) and not outcome.pending):
        return outcome.reason
    return ""


async def _quietly(doing: Awaitable[Any]) -> tuple[Any, Exception | None]:
    """The step's outcome, and what it broke by. A database or sidecar that is down is nobody's failure."""
    try:
        return await doing, None
    except (*DATABASE_DOWN, Unavailable) as down:
        return Unknown(reason=type(down).__name__), down
    except Exception as error:  # noqa: BLE001  whatever it is, it is told by who waits for the step
        return Failed(reason=type(error).__name__), error


def _ended_late(doing: asyncio.Task[tuple[Any, Exception | None]]) -> None:
    if not doing.cancelled() and (error := doing.result()[1]) is not None:
        log.error("step.broke_late", exc_info=error)
