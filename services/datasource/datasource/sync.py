"""Runs, driven: page by page from a source into our tables.

A run may die on any line: its log says where it goes on, and whoever finds it abandoned does so. What waits, waits here
and nowhere else (busy.py).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import sqlalchemy as sa
import structlog

from chassis.db import DATABASE_DOWN, Database, analyze
from chassis.outbox import Outbox
from chassis.tasks import Tasks, for_each
from chassis.telemetry import traceparent, tracer
from datasource.busy import patiently
from datasource.domain import Counts, CursorRefused, Entity, Mode, NoSource, SourceFailed, SyncRunning, SyncStatus
from datasource.inn8 import Inn8, Page
from datasource.pages import Sorted, delete_unseen, sort, write
from datasource.runs import Lost, Run, Runs
from datasource.settings import Source
from datasource.tables import OF_ENTITY

log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[None]]

_SOURCES_AT_ONCE = 4
_MANY_PAGES = 10  # from here on it matters how the database finds a page's rows


class Syncs:
    """`sources` are by tenant, and how each is read by its endpoint."""

    def __init__(
        self,
        *,
        db: Database,
        runs: Runs,
        outbox: Outbox,
        sources: Mapping[str, tuple[Source, Inn8]],
        tasks: Tasks,
        lease: timedelta,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._db = db
        self._runs = runs
        self._outbox = outbox
        self._sources = sources
        self._tasks = tasks
        self._lease = lease
        self._sleep = sleep

    # --- what starts runs ---

    async def sync_all(self) -> None:
        """Every source, parents first; an entity that fails keeps no other from its turn."""

        async def sync(tenant: str) -> None:
            for entity in Entity:
                with contextlib.suppress(SyncRunning):
                    await self._drive(await self._begin(tenant, entity, Mode.INCREMENTAL, resume=True))

        await for_each(self._sources, sync, at_once=_SOURCES_AT_ONCE, name=str)

    async def resume_abandoned(self) -> None:
        """What somebody began who is no more, each to its end."""

        async def resume(tenant_and_entity: tuple[str, Entity]) -> None:
            with contextlib.suppress(SyncRunning):
                await self._drive(await self._begin(*tenant_and_entity, Mode.INCREMENTAL, resume=True))

        abandoned = [(tenant, entity) for tenant, entity in await self._runs.abandoned() if tenant in self._sources]
        await for_each(abandoned, resume, at_once=_SOURCES_AT_ONCE, name=".".join)

    async def command(self, tenant: str, entity: Entity, mode: Mode) -> tuple[str, asyncio.Task[None]]:
        """A new run under way: its log's id. Raises NoSource and SyncRunning."""
        run = await self._begin(tenant, entity, mode)
        return run.log.id, self._tasks.spawn(self._drive(run), name=f"sync.{entity}")

    async def _begin(self, tenant: str, entity: Entity, mode: Mode, *, resume: bool = False) -> Run:
        if tenant not in self._sources:
            raise NoSource
        source, _ = self._sources[tenant]
        return await self._runs.begin(tenant, source.endpoint, entity, mode, resume=resume)

    # --- a run ---

    async def _drive(self, run: Run) -> None:
        """To its end, or until somebody else has it."""
        keeping = asyncio.create_task(self._keep(run), name="sync.keep")
        try:
            with tracer.start_as_current_span(f"sync.{run.log.entity}"):
                await self._read(run)
        except SourceFailed as failed:
            log.warning("sync.failed", entity=run.log.entity, sync=run.log.id, reason=str(failed))
            await self._fail(run, str(failed))
        except (Lost, *DATABASE_DOWN) as lost:  # its lease ends, and whoever finds it goes on
            log.warning("sync.lost", entity=run.log.entity, sync=run.log.id, error=type(lost).__name__)
        except asyncio.CancelledError:
            with contextlib.suppress(*DATABASE_DOWN):
                await self._runs.let_go(run)
            raise
        except Exception:
            log.exception("sync.broke", entity=run.log.entity, sync=run.log.id)
            await self._fail(run, "Internal error: the log of the service has it.")
        finally:
            keeping.cancel()

    async def _read(self, run: Run) -> None:
        parent, cursor, pages = traceparent(), run.log.cursor, 0
        page, following = await self._page(run, cursor)
        while following is not None:
            # While this one is written, the next is asked for and looked through.
            ahead = asyncio.create_task(self._page(run, following), name="sync.ahead")
            try:
                await self._write(run, page, following, parent)
                cursor, pages = following, pages + 1
                page, following = await ahead
                if pages == _MANY_PAGES:
                    await self._db.write(lambda conn: analyze(conn, OF_ENTITY[run.log.entity]))
            finally:
                ahead.cancel()
        # Of the last page the run begins again with that page, until it has ended.
        await self._write(run, page, cursor, parent, ends=True)
        if run.log.mode is Mode.FULL:
            await self._end_full(run, parent)
        await self._tell(run)

    async def _page(self, run: Run, cursor: str | None) -> tuple[Sorted, str | None]:
        """And the next one's cursor, None after the last. Raises SourceFailed."""
        page = await self._ask(run, cursor)
        return await sort(run.log.entity, page.items), page.next

    async def _ask(self, run: Run, cursor: str | None) -> Page:
        _, inn8 = self._sources[run.log.tenant]
        entity, since = run.log.entity, run.log.since
        try:
            return await patiently(lambda: inn8.page(entity, since=since, cursor=cursor), sleep=self._sleep)
        except CursorRefused:
            log.info("sync.from_its_beginning", entity=entity, sync=run.log.id)
            return await patiently(lambda: inn8.page(entity, since=since, cursor=None), sleep=self._sleep)

    async def _write(self, run: Run, page: Sorted, cursor: str | None, parent: str, *, ends: bool = False) -> None:
        def in_one_transaction(conn: sa.Connection) -> None:
            write(conn, run, page, cursor=cursor, outbox=self._outbox, parent=parent)
            if ends and run.log.mode is Mode.INCREMENTAL:
                run.end(conn)

        await self._db.write(in_one_transaction)
        self._outbox.wake()

    async def _end_full(self, run: Run, parent: str) -> None:
        """What a full run has not seen is there no more; but a source that shows nothing at all is not believed."""

        def some(conn: sa.Connection) -> bool:
            if run.has_seen_any(conn) and delete_unseen(conn, run, outbox=self._outbox, parent=parent):
                return True
            run.end(conn)
            return False

        while await self._db.write(some):
            self._outbox.wake()

    async def _tell(self, run: Run) -> None:
        ended = await self._runs.get(run.log.id)
        counts = ended.model_dump(include=set(Counts.model_fields))
        log.info("sync.ended", entity=ended.entity, sync=ended.id, mode=ended.mode, status=ended.status, **counts)

    async def _fail(self, run: Run, message: str) -> None:
        """Where even that can't be written, its lease ends, and it is gone on with."""
        with contextlib.suppress(Lost, *DATABASE_DOWN):
            await self._db.write(lambda conn: run.end(conn, SyncStatus.FAILED, message=message))

    async def _keep(self, run: Run) -> None:
        """While it is driven nobody else is to take it; whoever has all the same, its next page finds out."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            with contextlib.suppress(*DATABASE_DOWN):
                try:
                    await self._runs.keep(run)
                except Lost:
                    return
