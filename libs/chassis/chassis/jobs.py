"""Recurring work on Dapr Jobs: one run at a time across replicas, started here and never awaited by the sidecar."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from fastapi import FastAPI

from chassis.db import DATABASE_DOWN
from chassis.leases import Leases
from chassis.problems import Unavailable
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks

log = structlog.get_logger()

_LEASE_SECONDS = 5.0
_REGISTER_AGAIN = 5.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """`every` is what Dapr's scheduler keeps. `at_start` runs in-process, that long after start, need no scheduler."""

    name: str
    every: timedelta
    work: Callable[[], Awaitable[None]]
    at_start: tuple[timedelta, ...] = ()

    @property
    def schedule(self) -> str:
        return f"@every {int(self.every.total_seconds())}s"


class Jobs:
    def __init__(self, *, sidecar: Sidecar, leases: Leases, jobs: tuple[Job, ...]) -> None:
        self._sidecar = sidecar
        self._leases = leases
        self._tasks = Tasks()
        self._jobs = {job.name: job for job in jobs}

    def mount(self, app: FastAPI) -> None:
        """The route that the scheduler calls. Delivery is at least once; the lease refuses overlap."""

        async def run_job(name: str) -> dict[str, str]:
            if (job := self._jobs.get(name)) is not None:
                self._tasks.spawn(self._run_leased(job), name=f"job.{name}")
            return {}

        app.post("/job/{name}", include_in_schema=False)(run_job)

    async def start(self) -> None:
        for job in self._jobs.values():
            self._tasks.spawn(self._register(job), name=f"job.{job.name}.register")
            for after in job.at_start:
                self._tasks.spawn(self._run_after(job, after), name=f"job.{job.name}.at-start")

    async def stop(self) -> None:
        """Nothing is lost: what a run leaves undone, the next run finds."""
        await self._tasks.drain(within=0)

    async def _register(self, job: Job) -> None:
        """Until the scheduler has it; a job that stands there with this schedule keeps its rhythm."""
        while True:
            try:
                known = await self._sidecar.get_job(job.name)
                if known is None or known.get("schedule") != job.schedule:
                    await self._sidecar.put_job(job.name, job.schedule)
                    log.info("job.registered", job=job.name, schedule=job.schedule)
            except Unavailable:
                await asyncio.sleep(_REGISTER_AGAIN)
            else:
                return

    async def _run_after(self, job: Job, after: timedelta) -> None:
        await asyncio.sleep(after.total_seconds())
        await self._run(job)

    async def _run_leased(self, job: Job) -> None:
        if not await self._leases.hold(f"job.{job.name}", seconds=_LEASE_SECONDS):
            return
        renewing = asyncio.create_task(self._renew(job))
        try:
            await self._run(job)
        finally:
            renewing.cancel()
            await self._leases.release(f"job.{job.name}")

    async def _renew(self, job: Job) -> None:
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            await self._leases.hold(f"job.{job.name}", seconds=_LEASE_SECONDS)

    async def _run(self, job: Job) -> None:
        try:
            await job.work()
        except (*DATABASE_DOWN, Unavailable) as down:
            log.warning("job.postponed", job=job.name, error=type(down).__name__)
