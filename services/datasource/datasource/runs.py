"""Runs and their logs: who drives one, how far it has come, and how it ended.

A run is its owner's until `held_until`, which the owner keeps ahead. Everything that a run writes goes with
`Run.advance`, in one transaction: whoever has lost a run meanwhile writes nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict

import sqlalchemy as sa

from chassis.db import Database, upsert
from chassis.ids import new_id, now
from datasource.domain import Counts, Entity, Mode, SyncLog, SyncRunning, SyncStatus, outcome, read_since
from datasource.tables import sync_logs, watermarks

log_of = sync_logs.c
_RUNNING = log_of.status == SyncStatus.IN_PROGRESS


class Key(TypedDict):
    """Whose rows, and which of them."""

    tenant: str
    source: str
    entity: Entity


class Lost(Exception):
    """Somebody else has the run now, or it has ended."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that this process drives; `owner` names this drive of it, and nobody else's."""

    log: SyncLog
    owner: str
    lease: timedelta

    @property
    def key(self) -> Key:
        """Whose rows these are."""
        return {"tenant": self.log.tenant, "source": self.log.source, "entity": self.log.entity}

    def advance(self, conn: sa.Connection, counted: Counts, **moved: Any) -> None:
        """Adds to the counts, and keeps the run ours. Raises Lost."""
        added = {name: log_of[name] + count for name, count in counted.model_dump().items() if count}
        held_until = now() + self.lease
        done = conn.execute(self._ours().values(held_until=held_until, **added, **moved))
        if done.rowcount != 1:
            raise Lost

    def end(self, conn: sa.Connection, status: SyncStatus | None = None, *, message: str | None = None) -> None:
        """By `status`, or by what the counts say. Raises Lost."""
        if status is None:
            status = outcome(_read_log(conn, self.log.id))
        self.advance(conn, Counts(), status=status, end_time=now(), error_message=message and message[:255])

    def let_go(self, conn: sa.Connection) -> None:
        conn.execute(self._ours().values(held_until=now() - self.lease))

    def has_seen_any(self, conn: sa.Connection) -> bool:
        counts = _read_log(conn, self.log.id)
        return counts.records + counts.errors > 0

    def _ours(self) -> sa.Update:
        return sa.update(sync_logs).where(log_of.id == self.log.id, log_of.owner == self.owner, _RUNNING)


class Runs:
    """`lease` is how long a run is its process's after the last sign of life."""

    def __init__(self, db: Database, *, lease: timedelta, lag: timedelta) -> None:
        self._db = db
        self._lease = lease
        self._lag = lag

    async def begin(self, tenant: str, source: str, entity: Entity, mode: Mode, *, resume: bool = False) -> Run:
        """A new run; with `resume` rather one that nobody drives any more. Raises SyncRunning while one is driven."""
        return await self._db.write(lambda conn: self._begin(conn, tenant, source, entity, mode, resume=resume))

    async def abandoned(self) -> list[tuple[str, Entity]]:
        """Those of every tenant that nobody drives any more."""
        query = sa.select(log_of.tenant, log_of.entity).where(_RUNNING, log_of.held_until < now()).order_by(log_of.id)
        rows = await self._db.read(lambda conn: conn.execute(query).all())
        return [(row.tenant, Entity(row.entity)) for row in rows]

    async def keep(self, run: Run) -> None:
        """It goes on: nobody else is to take it. Raises Lost."""
        await self._db.write(lambda conn: run.advance(conn, Counts()))

    async def let_go(self, run: Run) -> None:
        """Somebody else may go on with it at once."""
        await self._db.write(run.let_go)

    async def release_all(self) -> None:
        """Whatever was driven here before, nobody drives now: for a database that is this process's alone."""
        free = sa.update(sync_logs).where(_RUNNING).values(held_until=now() - self._lease)
        await self._db.write(lambda conn: conn.execute(free))

    async def get(self, log_id: str) -> SyncLog:
        return await self._db.read(lambda conn: _read_log(conn, log_id))

    def _begin(self, conn: sa.Connection, tenant: str, source: str, entity: Entity, mode: Mode, *, resume: bool) -> Run:
        same = (log_of.tenant == tenant, log_of.source == source, log_of.entity == entity, _RUNNING)
        free = sa.update(sync_logs).where(*same, log_of.held_until < now())
        owner, log_id = new_id(), new_id()
        held = {"owner": owner, "held_until": now() + self._lease}
        if resume and (taken := conn.execute(free.values(held).returning(log_of.id)).scalar()):
            return Run(log=_read_log(conn, taken), owner=owner, lease=self._lease)
        given_up = {"status": SyncStatus.FAILED, "end_time": now(), "error_message": "Given up for a new run."}
        conn.execute(free.values(given_up))
        row = {
            "id": log_id,
            "tenant": tenant,
            "source": source,
            "entity": entity,
            "mode": mode,
            "status": SyncStatus.IN_PROGRESS,
            "start_time": now(),
            **Counts().model_dump(),
            "since": self._since(conn, tenant, source, entity) if mode is Mode.INCREMENTAL else None,
            **held,
        }
        if conn.execute(upsert(conn, sync_logs).values(row).on_conflict_do_nothing()).rowcount != 1:
            raise SyncRunning(entity)
        return Run(log=_read_log(conn, log_id), owner=owner, lease=self._lease)

    def _since(self, conn: sa.Connection, tenant: str, source: str, entity: Entity) -> datetime | None:
        c = watermarks.c
        known = sa.select(c.watermark).where(c.tenant == tenant, c.source == source, c.entity == entity)
        return read_since(conn.execute(known).scalar(), self._lag)


def raise_watermark(conn: sa.Connection, run: Run, at: datetime) -> None:
    """All rows up to `at` are here. Never into the future: from there on nothing would be read any more."""
    row = {**run.key, "watermark": min(at, now())}
    insert = upsert(conn, watermarks).values(row)
    raised = insert.on_conflict_do_update(
        index_elements=[watermarks.c.tenant, watermarks.c.source, watermarks.c.entity],
        set_={"watermark": insert.excluded.watermark},
        where=insert.excluded.watermark > watermarks.c.watermark,
    )
    conn.execute(raised)


class Logs:
    """A tenant's."""

    def __init__(self, db: Database, tenant: str) -> None:
        self._db = db
        self._tenant = tenant

    async def page(
        self, *, entity: Entity | None, statuses: Collection[SyncStatus], before: str | None, limit: int
    ) -> list[SyncLog]:
        """Newest first."""
        query = sa.select(sync_logs).where(log_of.tenant == self._tenant)
        if entity is not None:
            query = query.where(log_of.entity == entity)
        if statuses:
            query = query.where(log_of.status.in_(statuses))
        if before is not None:
            query = query.where(log_of.id < before)
        query = query.order_by(log_of.id.desc()).limit(limit)
        return [_log(row) for row in await self._db.read(lambda conn: conn.execute(query).mappings().all())]

    async def find(self, log_id: str) -> SyncLog | None:
        query = sa.select(sync_logs).where(log_of.tenant == self._tenant, log_of.id == log_id)
        row = await self._db.read(lambda conn: conn.execute(query).mappings().one_or_none())
        return None if row is None else _log(row)


def _read_log(conn: sa.Connection, log_id: str) -> SyncLog:
    return _log(conn.execute(sa.select(sync_logs).where(log_of.id == log_id)).mappings().one())


def _log(row: sa.RowMapping) -> SyncLog:
    return SyncLog.model_validate(dict(row))
