"""Today's stories over what the engine has on record of the released ones (`make histories`), by the engine's own
executor: whatever was in flight when a release is rolled out goes on where it was.

The engine compares an activity's name, which all steps of a saga share: here each step has to be the recorded one.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dapr.ext.workflow import WorkflowRuntime
from dapr.ext.workflow._durabletask.internal import protos as pb
from dapr.ext.workflow._durabletask.worker import _OrchestrationExecutor
from google.protobuf.json_format import ParseDict

from chassis.saga import Performer, Saga
from chassis.story import ONCE, Step, Story, Value
from chassis.workflow import Workflow
from contracts import services
from order.saga import OrderRef, charge, fulfil_order

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "tests" / "histories").rglob("*.json"))

Registry = Any  # of the engine's worker
History = Sequence[pb.HistoryEvent]


class Diverged(Exception):
    """The story asks for another step than the recorded one."""


class Executor(_OrchestrationExecutor):
    def process_event(self, ctx: Any, event: pb.HistoryEvent) -> None:
        asked = ctx._pending_actions.get(event.eventId)
        if event.HasField("taskScheduled") and asked is not None and asked.HasField("scheduleTask"):
            recorded, wanted = (
                json.loads(one.input.value)["step"] for one in (event.taskScheduled, asked.scheduleTask)
            )
            if recorded != wanted:
                raise Diverged(f"step {event.eventId} was {recorded}, now it is {wanted}")
        super().process_event(ctx, event)


def replayed(registry: Registry, events: History) -> str:
    """What is wrong with it, empty where nothing is."""
    ended = next((event.executionCompleted for event in events if event.HasField("executionCompleted")), None)
    known = [event for event in events if not event.HasField("executionCompleted")]
    told = Executor(registry, logging.getLogger(__name__)).execute("replayed", known[:-1], known[-1:])
    completed = [action.completeWorkflow for action in told.actions if action.HasField("completeWorkflow")]
    if any(one.workflowStatus == pb.ORCHESTRATION_STATUS_FAILED for one in completed):
        return completed[0].failureDetails.errorMessage
    if ended is None:
        return f"asks for {told.actions} anew" if told.actions else ""
    if not completed:
        return "goes on where it had ended"
    was, now = (json.loads(one.result.value or "null") for one in (ended, completed[0]))
    return "" if _kind(was) == _kind(now) else f"ended with {was}, now with {now}"


def _kind(outcome: Any) -> Any:
    return outcome["kind"] if isinstance(outcome, dict) else outcome


def history_in(file: Path) -> History:
    return [ParseDict(event, pb.HistoryEvent()) for event in json.loads(file.read_text())]


def registry_of(*workflows: Any) -> Registry:
    runtime, loop = WorkflowRuntime(), asyncio.new_event_loop()
    for workflow in workflows:
        workflow.register(runtime, loop)
    loop.close()
    return runtime._WorkflowRuntime__worker._registry  # pyright: ignore[reportAttributeAccessIssue]


MADE = {name: app.state.services for name, app in services().items()}
REGISTRIES: Mapping[str, Registry] = {
    "order": registry_of(Workflow(MADE["order"].saga), Workflow(MADE["order"].monitor.saga)),
    "notification": registry_of(Workflow(MADE["notification"].saga)),
    "backoffice": registry_of(MADE["backoffice"].exports),
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_release_has_begun_goes_on(file: Path):
    assert replayed(REGISTRIES[file.parent.name], history_in(file)) == ""


def test_what_each_workflow_begins_today_is_on_record_and_no_version_that_is_gone():
    for service, registry in REGISTRIES.items():
        assert registry.orchestrators == {}, "a workflow without a version can't be changed"
        known = {(name, version) for name, them in registry.versioned_orchestrators.items() for version in them}
        recorded = {tuple(file.name.split(".")[:2]) for file in FILES if file.parent.name == service}
        assert set(registry.latest_versioned_orchestrators_version_name.items()) <= recorded, "make histories"
        assert recorded <= known, "a version may go once none of its runs can be left: its recordings go with it"


# --- that it can fail: each of these needs a version of its own ---


def _before_all(order: OrderRef) -> Story[Any]:
    yield Step(title="greet")
    return (yield from fulfil_order(order))


def _altered(change: Callable[[Step], Iterable[Step]]) -> Callable[[OrderRef], Story[Any]]:
    """The story with other steps in the place of some; it is told what came of the last of them."""

    def story(order: OrderRef) -> Story[Any]:
        told, outcome = fulfil_order(order), None
        while True:
            try:
                asked = told.send(outcome)
            except StopIteration as ended:
                return ended.value
            assert isinstance(asked, Step)
            for step in change(asked):
                outcome = yield step

    return story


CHANGES: Mapping[str, Callable[[OrderRef], Story[Any]]] = {
    "a step before all": _before_all,
    "a step between": _altered(lambda step: [Step(title="greet"), step] if step.title == "confirm" else [step]),
    "a step of a compensation": _altered(
        lambda step: [Step(title="greet"), step] if step.title == "refund" else [step]
    ),
    "a step less": _altered(lambda step: [charge()] if step.title == "confirm" else [step]),
    "fewer repetitions": _altered(lambda step: [replace(step, retry=ONCE)]),
}


async def _never(*_: Any) -> Any:
    raise AssertionError("nothing is performed in a replay")


def changed(story: Callable[[OrderRef], Story[Any]], **versions: Any) -> Registry:
    saga: Saga[OrderRef] = MADE["order"].saga
    performers = {**saga.performers, "greet": Performer(perform=_never, outcome=Value)}
    return registry_of(Workflow(replace(saga, story=story, performers=performers, **versions)))


@pytest.mark.parametrize("change", CHANGES)
def test_a_story_that_is_changed_under_its_version_is_found_and_under_a_new_one_what_is_in_flight_goes_on(change: str):
    histories = [history_in(file) for file in FILES if file.name.startswith("fulfil_order.")]

    under_its_own = changed(CHANGES[change])
    assert any(replayed(under_its_own, history) for history in histories)

    anew = changed(CHANGES[change], version="2", others={"1": fulfil_order})
    assert [replayed(anew, history) for history in histories] == [""] * len(histories)
