"""A step is seen in the log, in two metrics and in a span, under the names that PatternKit's workflows have."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from chassis.saga import HandedOver, Performer, Run, Saga
from chassis.story import Kind, Phase, Reference, Step, Story, Unknown, Value
from chassis.tasks import Tasks

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
REF = Reference(tenant="t-1", tenant_name="Kötter ☕", id="r-1", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
SCOPE = {
    "WorkflowName": "watched",
    "ExecutionId": "r-1",
    "StepKind": "Then",
    "StepTitle": "keep",
    "CorrelationId": TRACE,
}
TAGS = {
    "workflow.name": "watched",
    "workflow.execution_id": "r-1",
    "step.kind": "Then",
    "step.title": "keep",
    "step.phase": "then",
    "correlation_id": TRACE,
}


class Done(Value):
    pass


class Nobody:
    async def hand_over(self, _reference: Reference, _reason: str) -> None:
        return

    async def waiting(self, _reference: Reference, _delay: Any) -> None:
        return


def story(_ref: Reference) -> Story[Done]:
    return (yield Step(title="keep", kind=Kind.THEN, phase=Phase.THEN))


async def drive(answer: Any, *, seconds: float = 8.0) -> Any:
    async def keep(_ref: Reference, _argument: None, _run: Run) -> Any:
        structlog.get_logger().info("inside")
        if answer == "late":
            await asyncio.sleep(0.02)
            raise RuntimeError("too late")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def flush(_ref: Reference, _records: Any) -> None:
        return

    tasks = Tasks()
    saga = Saga(
        name="watched",
        story=story,
        reference=Reference,
        performers={"keep": Performer(perform=keep, outcome=Done)},
        flush=flush,
        takeover=Nobody(),
        tasks=tasks,
        step_seconds=seconds,
    )
    outcome = await saga.run_inline(REF)
    await tasks.drain(within=5)
    return outcome


Spans = Callable[[], Sequence[ReadableSpan]]
Points = Callable[[str], list[Any]]

# (what the step does, whether that is an error)
ENDINGS: list[tuple[Any, bool]] = [
    (Done(), False),
    (Unknown(reason="processing", pending=True), False),
    (Unknown(reason="no answer"), True),
    (RuntimeError("wrote to ada@example.com"), True),
]


@pytest.mark.parametrize(("answer", "failed"), ENDINGS)
async def test_a_step_is_counted_and_timed_as_a_success_or_an_error(points: Points, answer: Any, *, failed: bool):
    labels = {"workflow": "watched", "step": "keep", "phase": "then", "status": "error" if failed else "success"}

    def seen(name: str, what: str) -> int:
        return sum(getattr(point, what) for point in points(name) if dict(point.attributes) == labels)

    before = seen("workflow_steps_total", "value"), seen("workflow_step_duration_ms", "count")
    await drive(answer)

    after = seen("workflow_steps_total", "value"), seen("workflow_step_duration_ms", "count")
    assert after == (before[0] + 1, before[1] + 1)
    known = {tuple(point.attributes) for point in points("workflow_steps_total")}
    assert known == {("workflow", "step", "phase", "status")}


@pytest.mark.parametrize(("answer", "failed"), ENDINGS)
async def test_a_step_leaves_a_record_when_it_starts_and_one_when_it_ends_in_its_own_scope(
    logs: list[Any], answer: Any, *, failed: bool
):
    await drive(answer)

    ending = ("step.failed", "error") if failed else ("step.completed", "info")
    told = [(record["event"], record["log_level"]) for record in logs]
    assert told == [("step.started", "debug"), ("inside", "info"), ending]
    assert all(SCOPE.items() <= record.items() for record in logs)
    assert all(record["tenant_name"] == "Kötter ☕" for record in logs)
    assert logs[-1]["ElapsedMs"] >= 0
    assert logs[-1].get("exc_info") is (answer if isinstance(answer, Exception) else None)


@pytest.mark.parametrize(("answer", "failed"), ENDINGS)
async def test_a_step_has_a_span_with_its_tags_and_how_it_ended(spans: Spans, answer: Any, *, failed: bool):
    await drive(answer)

    [span] = spans()
    assert span.name == "watched.keep"
    assert TAGS.items() <= dict(span.attributes or {}).items()
    assert span.status.status_code is (StatusCode.ERROR if failed else StatusCode.OK)
    if isinstance(answer, Exception):
        [event] = span.events
        assert (event.attributes or {})["exception.type"] == "RuntimeError"
        assert "ada@example.com" not in str([event.attributes, span.status.description])
    else:
        assert not span.events


async def test_a_step_past_its_time_is_an_error_and_what_it_breaks_with_later_is_told(logs: list[Any], spans: Spans):
    assert await drive("late", seconds=0.001) == HandedOver("timeout")

    assert [record["event"] for record in logs] == ["step.started", "inside", "step.failed", "step.broke_late"]
    assert logs[2]["reason"] == "timeout"
    assert SCOPE.items() <= logs[3].items()
    [span] = spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "timeout")
