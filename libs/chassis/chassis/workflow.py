"""A saga's durable driver: its story as a Dapr Workflow, each step an activity.

The workflow is replayed from its history by the engine, so there is no I/O, clock, random or logging in `_Told`. What a
step has to say is written down by its activity, before the workflow sleeps.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from dapr.ext.workflow import (
    DaprWorkflowContext,
    RetryPolicy,
    TaskFailedError,
    WorkflowActivityContext,
    WorkflowRuntime,
)
from pydantic import TypeAdapter

from chassis.retry_delays import recheck_delay
from chassis.saga import Incident, Run, Saga, Tell
from chassis.story import Failed, Kind, OnError, Phase, Reference, Retry, Step, Together, Unknown, Value
from chassis.telemetry import continued

_RENEW_HISTORY_AFTER = 50  # unknown outcomes in one run of the workflow before its history is begun anew
_REPORTING = Retry(attempts=10, first_delay=1, factor=2)
_STOPPED = object()
COMPENSATION_FAILED = {"kind": "compensation_failed"}  # what a workflow ends with that a person must look at

R = TypeVar("R", bound=Reference)
Telling = Generator[Any, Any, Any]


class StepFailed(Exception):
    """The step answered that it failed, or broke; its text is the reason. Dapr repeats it by the step's policy."""


@dataclass(frozen=True)
class Workflow(Generic[R]):
    saga: Saga[R]

    def register(self, runtime: WorkflowRuntime, loop: asyncio.AbstractEventLoop) -> None:
        """Steps run on the service's own `loop`: one engine, one writer, one client."""

        async def perform_step(_ctx: WorkflowActivityContext, call: dict[str, Any]) -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.perform(call), loop))

        async def report(_ctx: WorkflowActivityContext, call: dict[str, Any]) -> None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.report(call), loop))

        def telling(story: Tell[R]) -> Callable[[DaprWorkflowContext, dict[str, Any]], Telling]:
            def tell(ctx: DaprWorkflowContext, given: dict[str, Any]) -> Telling:
                return (yield from _Told(self.saga, story, ctx, given, perform_step, report).tell())

            return tell

        runtime.register_activity(perform_step, name=f"{self.saga.name}_step")
        runtime.register_activity(report, name=f"{self.saga.name}_incident")
        stories = {**self.saga.others, self.saga.version: self.saga.story}
        for version, story in stories.items():
            latest = version == self.saga.version
            runtime.register_versioned_workflow(
                telling(story), name=self.saga.name, version_name=version, is_latest=latest
            )

    async def perform(self, call: dict[str, Any]) -> Any:
        """One activity: the step, and what must be on record before the workflow sleeps. Raises StepFailed."""
        reference, step = self.saga.reference.model_validate(call["reference"]), self._step(call)
        run = Run(reference=reference)
        with continued(reference.traceparent):
            outcome = await self.saga.perform(step, run, within=min(step.timeout, self.saga.step_seconds))
            await self.saga.write_down(run)
            if isinstance(outcome, Unknown | Failed):
                repeated = timedelta(seconds=step.retry.longest if isinstance(outcome, Failed) else 0)
                await self.saga.takeover.waiting(reference, max(recheck_delay(call["attempt"]), repeated))
        if isinstance(outcome, Failed):
            raise StepFailed(outcome.reason)
        return outcome.model_dump(mode="json")

    async def report(self, call: dict[str, Any]) -> None:
        """The other activity: a step failed for good."""
        at = datetime.fromisoformat(call["at"]).replace(tzinfo=UTC)
        incident = Incident(step=self._step(call), error=call["error"], at=at)
        await self.saga.report(self.saga.reference.model_validate(call["reference"]), incident)

    def _step(self, call: dict[str, Any]) -> Step:
        """What `_call` made of it, or a version before: of a run that is older than its policy."""
        performer = self.saga.performers[call["step"]]
        return Step(
            title=call["step"],
            kind=Kind(call.get("kind", Kind.WHEN)),
            phase=Phase(call["phase"]),
            argument=performer.argument.model_validate(call["argument"]) if performer.argument else None,
            timeout=call.get("timeout", self.saga.step_seconds),
            retry=Retry.model_validate(call.get("retry", {})),
            on_error=OnError(call.get("onError", OnError.STOP)),
            skips=tuple(call.get("skips", ())),
        )


@dataclass
class _Told(Generic[R]):
    """One telling of the story by the engine. `attempt` counts the waits for outcomes that nobody knew."""

    saga: Saga[R]
    story: Tell[R]
    ctx: DaprWorkflowContext
    given: dict[str, Any]
    perform_step: Any
    report: Any

    def tell(self) -> Telling:
        attempt, unknowns = int(self.given["attempt"]), 0
        story = self.story(self.saga.reference.model_validate(self.given["reference"]))
        outcome: Any = None
        while True:
            try:
                asked = story.send(outcome)
            except StopIteration as told:
                return told.value.model_dump(mode="json") if isinstance(told.value, Value) else None
            steps = asked.steps if isinstance(asked, Together) else (asked,)
            outcomes: dict[int, Any] = dict.fromkeys(range(len(steps)))
            while True:
                yield from self._ask(steps, outcomes, attempt)
                if _STOPPED in outcomes.values():
                    return COMPENSATION_FAILED
                if None not in outcomes.values():
                    break
                yield self.ctx.create_timer(recheck_delay(attempt))
                attempt, unknowns = attempt + 1, unknowns + 1
                if unknowns == _RENEW_HISTORY_AFTER:
                    self.ctx.continue_as_new({**self.given, "attempt": attempt})
                    return None
            outcome = tuple(outcomes.values()) if isinstance(asked, Together) else outcomes[0]

    def _ask(self, steps: Sequence[Step], outcomes: dict[int, Any], attempt: int) -> Telling:
        """All that have no outcome yet, at the same time. Each is waited for: `when_all` ends with the first that
        failed, and would leave the others to themselves."""
        missing = [at for at, outcome in outcomes.items() if outcome is None]
        calls = [_call(self.given["reference"], steps[at], attempt) for at in missing]
        tasks = [
            self.ctx.call_activity(self.perform_step, input=call, retry_policy=_policy(steps[at].retry))
            for at, call in zip(missing, calls, strict=True)
        ]
        for at, call, task in zip(missing, calls, tasks, strict=True):
            try:
                outcomes[at] = self._decode(steps[at], (yield task))
            except TaskFailedError as failed:
                outcomes[at] = yield from self._failed(steps[at], call, failed)

    def _failed(self, step: Step, call: dict[str, Any], failed: TaskFailedError) -> Telling:
        """None where it must be asked about again: what may not fail, and what broke around the step."""
        if not step.may_fail or failed.details.error_type != StepFailed.__name__:
            return None
        error, at = failed.details.message, self.ctx.current_utc_datetime.isoformat()
        told = call | {"error": error, "at": at}
        yield self.ctx.call_activity(self.report, input=told, retry_policy=_policy(_REPORTING))
        return Failed(reason=error) if step.on_error is OnError.CONTINUE else _STOPPED

    def _decode(self, step: Step, answer: Any) -> Any:
        """The step's outcome as a value, None while it is unknown."""
        if answer.get("kind") == "unknown":
            return None
        return TypeAdapter(self.saga.performers[step.title].outcome).validate_python(answer)


def _call(reference: Any, step: Step, attempt: int) -> dict[str, Any]:
    return {
        "reference": reference,
        "step": step.title,
        "kind": step.kind.value,
        "phase": step.phase.value,
        "argument": step.argument.model_dump(mode="json") if step.argument else None,
        "timeout": step.timeout,
        "retry": step.retry.model_dump(),
        "onError": step.on_error.value,
        "skips": step.skips,
        "attempt": attempt,
    }


def _policy(retry: Retry) -> RetryPolicy | None:
    if retry.attempts == 1:
        return None
    return RetryPolicy(
        first_retry_interval=timedelta(seconds=retry.first_delay),
        max_number_of_attempts=retry.attempts,
        backoff_coefficient=retry.factor,
    )
