"""What a service starts, and how it stops: the last that was started is the first to stop."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from chassis import migrations
from chassis.db import Database

if TYPE_CHECKING:  # the worker's gRPC takes 17 MB, also of a service that has no workflow
    from dapr.ext.workflow import WorkflowRuntime


class Part(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Durable(Protocol):
    """A workflow of Dapr's, such as `chassis.workflow.Workflow` of a saga."""

    def register(self, runtime: "WorkflowRuntime", loop: asyncio.AbstractEventLoop) -> None: ...


class Lifespan(AsyncExitStack):
    """Given to a service's `start`, which lists its parts. Where one can't start, those before it stop."""

    async def start(self, part: Part) -> None:
        await part.start()
        self.push_async_callback(part.stop)

    async def database(self, db: Database, package: ModuleType, metadata: sa.MetaData) -> None:
        """Open, and brought to the newest of the migrations of `package`. First of all: its lock tells two processes on
        one file apart."""
        await self.start(db)
        await asyncio.to_thread(migrations.upgrade, db.url, package, metadata)

    def loop(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Work without an end: cancelled, and waited for."""
        task = asyncio.create_task(work, name=name)

        async def stop() -> None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        self.push_async_callback(stop)

    async def workflow(self, runtime: "WorkflowRuntime | None", *workflows: Durable) -> None:
        """All that the service has, such as a saga's durable driver; without a `runtime` nothing durable runs here."""
        if runtime is None:
            return
        for workflow in workflows:
            workflow.register(runtime, asyncio.get_running_loop())
        await asyncio.to_thread(runtime.start)
        self.push_async_callback(asyncio.to_thread, runtime.shutdown)


Start = Callable[[Lifespan], Awaitable[None]]
