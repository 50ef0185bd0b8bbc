"""Recurring work on Dapr Jobs: one run at a time across replicas, started here and never awaited by the sidecar.

One more is a function and a line: `Job(name="Tidying", every=timedelta(hours=1), work=tidy_up)`. Of many items
in it `chassis.tasks.for_each` works on a few at a time, and lets none that fails keep another from it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
import structlog
from fastapi import FastAPI

from chassis import recurring
from chassis.db import DATABASE_DOWN, Database
from chassis.job_runs import RunStatus, RunView, begin_run, end_run, runs_of
from chassis.leases import Leases
from chassis.problems import Unavailable
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks

log = structlog.get_logger()

_LEASE_SECONDS = 5.0
_REGISTER_AGAIN = 5.0
_LOOK_AGAIN = 0.5
_DOWN = (*DATABASE_DOWN, Unavailable)


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
    """`paused` says of a job's name whether the scheduler and a start leave it alone; a person may run it all the
    same."""

    def __init__(
        self,
        *,
        db: Database,
        runs: sa.Table,
        sidecar: Sidecar,
        leases: Leases,
        jobs: tuple[Job, ...],
        paused: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        self._db = db
        self._runs = runs
        self._sidecar = sidecar
        self._leases = leases
        self._tasks = Tasks()
        self._jobs = {job.name: job for job in jobs}
        self._under_way: set[str] = set()
        self.paused = paused

    def mount(self, app: FastAPI) -> None:
        """The route that the scheduler calls, and those of people. Delivery is at least once; the lease refuses
        overlap."""

        async def run_job(name: str) -> dict[str, str]:
            if (job := self._jobs.get(name)) is not None:
                self._tasks.spawn(self._run_unless_paused(job, by="scheduler"), name=f"job.{name}")
            return {}

        app.post("/job/{name}", include_in_schema=False)(run_job)
        app.state.jobs = self
        recurring.router.add_to(app)

    async def start(self) -> None:
        for job in self._jobs.values():
            self._tasks.spawn(self._register(job), name=f"job.{job.name}.register")
            for after in job.at_start:
                self._tasks.spawn(self._run_at_start(job, after), name=f"job.{job.name}.at-start")

    async def stop(self) -> None:
        """Nothing is lost: what a run leaves undone, the next run finds."""
        await self._tasks.drain(within=0)

    # --- for people ---

    def known(self) -> Sequence[Job]:
        return list(self._jobs.values())

    async def last_runs(self, name: str) -> list[RunView]:
        """Newest first."""
        return await self._db.read(lambda conn: runs_of(conn, self._runs, name))

    async def run_now(self, name: str, *, by: str) -> bool | None:
        """Whether a run has begun: not while there is one. None where no job has this name."""
        return await self._begin(self._jobs[name], by=by) is not None if name in self._jobs else None

    # --- how ---

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

    async def _run_at_start(self, job: Job, after: timedelta) -> None:
        """As soon as nobody runs it: a dead process's lease ends by itself, and a living one's run does as well."""
        await asyncio.sleep(after.total_seconds())
        ends = time.monotonic() + 2 * _LEASE_SECONDS
        while not await self._run_unless_paused(job, by="start") and time.monotonic() < ends:  # noqa: ASYNC110  another process's
            await asyncio.sleep(_LOOK_AGAIN)

    async def _run_unless_paused(self, job: Job, *, by: str) -> bool:
        """False while somebody else runs it."""
        if self.paused(job.name):
            log.info("job.paused", job=job.name)
            return True
        try:
            return await self._begin(job, by=by) is not None
        except _DOWN as down:
            log.warning("job.postponed", job=job.name, error=type(down).__name__)
            return True

    async def _begin(self, job: Job, *, by: str) -> "asyncio.Task[None] | None":
        """The run, on record and under way; None while there is another one, here or elsewhere."""
        if job.name in self._under_way:
            return None
        self._under_way.add(job.name)
        try:
            run_id = await self._db.write(lambda conn: self._take(conn, job, by))
        except BaseException:
            self._under_way.discard(job.name)
            raise
        if run_id is None:
            self._under_way.discard(job.name)
            return None
        return self._tasks.spawn(self._perform(job, run_id), name=f"job.{job.name}")

    def _take(self, conn: sa.Connection, job: Job, by: str) -> str | None:
        held = self._leases.take(conn, f"job.{job.name}", seconds=_LEASE_SECONDS)
        return begin_run(conn, self._runs, job.name, by=by) if held else None

    async def _perform(self, job: Job, run_id: str) -> None:
        began, status, error = time.monotonic(), RunStatus.INTERRUPTED, ""
        renewing = asyncio.create_task(self._renew(job, asyncio.current_task()))
        try:
            await job.work()
            status = RunStatus.COMPLETED
        except _DOWN as down:
            status, error = RunStatus.POSTPONED, type(down).__name__
            log.warning("job.postponed", job=job.name, error=error)
        except Exception as broken:
            status, error = RunStatus.FAILED, type(broken).__name__
            log.exception("job.failed", job=job.name)
        finally:
            took = time.monotonic() - began
            renewing.cancel()

            def ended(conn: sa.Connection) -> None:
                end_run(conn, self._runs, run_id, status=status, error=error, took=took)
                self._leases.free(conn, f"job.{job.name}")

            try:
                await asyncio.wait([renewing])  # what it is writing would hold the lease that is given back next
                await self._db.write(ended)
            except DATABASE_DOWN:  # its lease ends by itself, and the next run calls this one interrupted
                log.warning("job.end_unwritten", job=job.name)
            finally:
                # Only now: the lease is this process's, so a run that began earlier would take it for its own.
                self._under_way.discard(job.name)

    async def _renew(self, job: Job, run: "asyncio.Task[None] | None") -> None:
        """As long as `run` goes on. Where another process has it meanwhile, this one's run ends."""
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            with suppress(*DATABASE_DOWN):
                if not await self._leases.hold(f"job.{job.name}", seconds=_LEASE_SECONDS) and run is not None:
                    log.warning("job.taken_over", job=job.name)
                    run.cancel()
                    return
