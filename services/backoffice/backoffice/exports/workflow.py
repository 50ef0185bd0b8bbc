"""An export as a Dapr Workflow: page after page, then the file. How far it is stands in the database: killed, or begun
again by the sweep, it goes on where it was, and two of them at once make one file."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from datetime import timedelta
from typing import Any

from dapr.ext.workflow import (
    DaprWorkflowContext,
    RetryPolicy,
    TaskFailedError,
    WorkflowActivityContext,
    WorkflowRuntime,
)

from backoffice.exports.jobs import Job
from backoffice.exports.steps import Steps
from backoffice.system import open_jobs
from chassis.db import Database
from chassis.jobs import Job as Recurring
from chassis.saga import Reference
from chassis.sidecar import Sidecar
from chassis.takeover import instance_id
from chassis.tasks import for_each
from chassis.telemetry import continued, told_of

WORKFLOW, VERSION = "export_job", "1"

PAGES_OF_A_RUN = 50  # then the history of the workflow is begun anew
_TRIES = 3
_AT_ONCE, _BATCH = 4, 200

Step = Callable[[Reference, Any], Coroutine[Any, Any, Any]]


class ExportJobs:
    """`again` is how long a step that failed waits for its second try; for the third, three times as long."""

    def __init__(self, *, db: Database, sidecar: Sidecar, steps: Steps, again: timedelta) -> None:
        self._db = db
        self._sidecar = sidecar
        self._steps: dict[str, Step] = {
            "page": lambda reference, _: steps.page(reference),
            "finish": lambda reference, _: steps.finish(reference),
            "fail": steps.fail,
        }
        self._tries = RetryPolicy(first_retry_interval=again, max_number_of_attempts=_TRIES, backoff_coefficient=3)
        # That it failed has to be written down: for as long as the database or the storage is away.
        self._patience = RetryPolicy(
            first_retry_interval=again,
            max_number_of_attempts=1000,
            backoff_coefficient=2,
            max_retry_interval=timedelta(minutes=1),
        )

    async def start(self, job: Job) -> None:
        """One that runs already is left alone by the engine."""
        given = Reference(tenant=job.tenant, tenant_name=job.tenant_name, id=job.id, traceparent=job.traceparent)
        await self._sidecar.start_workflow(WORKFLOW, instance_id(given), given.model_dump(mode="json"))

    def sweep_job(self) -> Recurring:
        """Whatever nobody works on, be it that its process died before the workflow began: at start, and every 30 s."""
        return Recurring(name="PendingExports", every=timedelta(seconds=30), work=self.sweep, at_start=(timedelta(0),))

    async def sweep(self) -> None:
        waiting = await open_jobs(self._db, _BATCH)
        await for_each(waiting, self.start, at_once=_AT_ONCE, name=lambda job: job.id)

    def register(self, runtime: WorkflowRuntime, loop: asyncio.AbstractEventLoop) -> None:
        """Its steps run on the service's own `loop`: one engine, one client, one storage."""

        async def do_step(_ctx: WorkflowActivityContext, call: dict[str, Any]) -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.perform(call), loop))

        runtime.register_activity(do_step, name=f"{WORKFLOW}_step")
        runtime.register_versioned_workflow(self.tell, name=WORKFLOW, version_name=VERSION, is_latest=True)

    async def perform(self, call: dict[str, Any]) -> Any:
        """One activity. What it raises is tried again by the engine."""
        reference = Reference.model_validate(call["reference"])
        with continued(reference.traceparent), told_of(tenant=reference.tenant, tenant_name=reference.tenant_name):
            return await self._steps[call["step"]](reference, call.get("what"))

    def tell(self, ctx: DaprWorkflowContext, reference: dict[str, Any]) -> Generator[Any, Any, None]:
        """Replayed from its history by the engine: no I/O, clock, random or logging in here."""

        def step(name: str, policy: RetryPolicy, **more: str) -> Any:
            untyped: Any = ctx
            call = {"reference": reference, "step": name, **more}
            return untyped.call_activity(f"{WORKFLOW}_step", input=call, retry_policy=policy)

        what = "read"
        try:
            for _ in range(PAGES_OF_A_RUN):
                if not (yield step("page", self._tries)):
                    what = "write"
                    yield step("finish", self._tries)
                    return
        except TaskFailedError:
            yield step("fail", self._patience, what=what)
        else:
            ctx.continue_as_new(reference)
