"""What is seen of a saga's step while it is performed: log records in a scope of their own, two metrics and a span.

The names are those that PatternKit's workflows have, so that one set of dashboards and searches serves both.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry.trace import Span, Status, StatusCode

from chassis.telemetry import meter, trace_id_in, tracer

if TYPE_CHECKING:
    from chassis.story import Reference, Step

log = structlog.get_logger()

_steps_total = meter.create_counter("workflow_steps_total", description="Steps performed, by success or error")
_step_ms = meter.create_histogram("workflow_step_duration_ms", unit="ms", description="How long a step took")


class Observation:
    def __init__(self, workflow: str, step: "Step", span: Span) -> None:
        self._labels: dict[str, Any] = {"workflow": workflow, "step": step.title, "phase": step.phase.value}
        self._span = span

    def ended(self, took: float, *, failed: str, error: Exception | None) -> None:
        """After `took` milliseconds; `failed` says why it has no outcome, `error` what was raised."""
        labels = self._labels | {"status": "error" if failed else "success"}
        _steps_total.add(1, labels)
        _step_ms.record(took, labels)
        if error is not None:
            self._span.record_exception(error)
        if failed:
            self._span.set_status(Status(StatusCode.ERROR, str(error or failed)))
            log.error("step.failed", ElapsedMs=took, reason=failed, exc_info=error)
        else:
            self._span.set_status(StatusCode.OK)
            log.info("step.completed", ElapsedMs=took)


@contextmanager
def observed(workflow: str, reference: "Reference", step: "Step") -> Generator[Observation]:
    tags = {
        "workflow.name": workflow,
        "workflow.execution_id": reference.id,
        "step.kind": step.kind.value,
        "step.title": step.title,
        "step.phase": step.phase.value,
        "correlation_id": correlation_id(reference),
        "tenant": reference.tenant,
        "tenant_name": reference.tenant_name,
    }
    with (
        tracer.start_as_current_span(f"{workflow}.{step.title}", attributes=tags) as span,
        structlog.contextvars.bound_contextvars(
            tenant=reference.tenant,
            tenant_name=reference.tenant_name,
            WorkflowName=workflow,
            ExecutionId=reference.id,
            StepKind=step.kind.value,
            StepTitle=step.title,
            CorrelationId=correlation_id(reference),
        ),
    ):
        log.debug("step.started")
        yield Observation(workflow, step, span)


def correlation_id(reference: "Reference") -> str:
    """The trace of the request or event that the saga began with, whoever drives it now; without one the saga's id."""
    return trace_id_in(reference.traceparent) or reference.id
