"""Jobs in SQL, as requests see them. A store is made for one tenant, so that no query can forget it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict

from backoffice.clients import Filters
from backoffice.domain import (
    DATA_EXPORT,
    ExportFormat,
    ExportKind,
    JobEnded,
    JobNotFound,
    JobOfOtherTenant,
    JobStatus,
    NotYourJob,
    moves_into,
)
from backoffice.tables import jobs
from chassis.db import Database
from chassis.erasure import ERASED
from chassis.export_pages import Column
from chassis.ids import new_id, now
from chassis.tenants import elsewhere


class Export(BaseModel):
    """What is exported: the arguments of a job of the type DataExport."""

    model_config = ConfigDict(frozen=True)

    kind: ExportKind
    format: ExportFormat
    filters: Filters


class Job(BaseModel):
    """`columns` and `total` are known from the first page on; `file` is the key of what a completed one made, for as
    long as that is kept."""

    model_config = ConfigDict(frozen=True)

    id: str
    tenant: str
    tenant_name: str
    user_id: str
    type: str
    export: Export
    status: JobStatus
    version: int
    columns: Sequence[Column]
    total: int | None
    done: int
    file: str | None
    error: str | None
    traceparent: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def has_file(self) -> bool:
        """Whether anybody may have it: of a person who is erased it is only still to go."""
        return self.file is not None and self.user_id != ERASED

    @property
    def percent(self) -> int:
        """Whole; 100 only once there is a file."""
        if self.status is JobStatus.COMPLETED:
            return 100
        return min(99, self.done * 100 // self.total) if self.total else 0


def job_of(row: sa.RowMapping) -> Job:
    columns, export = orjson.loads(row["columns"] or "[]"), orjson.loads(row["arguments"])
    return Job.model_validate({**row, "columns": columns, "export": export})


def move(conn: sa.Connection, tenant: str, job_id: str, target: JobStatus, **values: Any) -> Job | None:
    """The conditional update that every move is; None where the job has come elsewhere."""
    this = (jobs.c.tenant == tenant, jobs.c.id == job_id, jobs.c.status.in_(moves_into(target)))
    moved = sa.update(jobs).where(*this).values(status=target, version=jobs.c.version + 1, **values).returning(jobs)
    row = conn.execute(moved).mappings().one_or_none()
    return None if row is None else job_of(row)


class JobStore:
    """A tenant's jobs; those of one `owner`, None for everybody's."""

    def __init__(self, db: Database, tenant: str, *, owner: str | None = None) -> None:
        self._db = db
        self._tenant = tenant
        self._owner = owner

    async def add(self, export: Export, *, user_id: str, tenant_name: str, traceparent: str) -> Job:
        row = {
            "id": new_id(),
            "tenant": self._tenant,
            "tenant_name": tenant_name,
            "user_id": user_id,
            "type": DATA_EXPORT,
            "arguments": export.model_dump_json(by_alias=True),
            "status": JobStatus.QUEUED,
            "version": 1,
            "done": 0,
            "traceparent": traceparent,
            "created_at": now(),
        }
        inserted = sa.insert(jobs).values(row).returning(jobs)
        return job_of(await self._db.write(lambda conn: conn.execute(inserted).mappings().one()))

    async def get(self, job_id: str) -> Job:
        """Raises JobNotFound, JobOfOtherTenant or NotYourJob."""
        return await self._db.read(lambda conn: self._get(conn, job_id))

    async def page(self, *, user_id: str, before: str | None, limit: int) -> list[Job]:
        """A user's, newest first (ids are UUIDv7), strictly older than `before`."""
        mine = (jobs.c.tenant == self._tenant, jobs.c.user_id == user_id)
        query = sa.select(jobs).where(*mine).order_by(jobs.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(jobs.c.id < before)
        return [job_of(row) for row in await self._db.read(lambda conn: conn.execute(query).mappings().all())]

    async def cancel(self, job_id: str) -> Job:
        """Its workflow finds out at its next step. Cancelled again it is as it was; raises JobEnded where it has ended
        otherwise, and what `get` raises."""

        def work(conn: sa.Connection) -> Job:
            known = self._get(conn, job_id)
            if known.status is JobStatus.CANCELLED:
                return known
            cancelled = move(conn, self._tenant, job_id, JobStatus.CANCELLED, completed_at=now())
            if cancelled is None:
                raise JobEnded(self._get(conn, job_id).status)
            return cancelled

        return await self._db.write(work)

    def _get(self, conn: sa.Connection, job_id: str) -> Job:
        query = sa.select(jobs).where(jobs.c.tenant == self._tenant, jobs.c.id == job_id)
        if (row := conn.execute(query).mappings().one_or_none()) is None:
            raise JobOfOtherTenant if elsewhere(conn, jobs, self._tenant, id=job_id) else JobNotFound
        if self._owner not in {None, row["user_id"]}:
            raise NotYourJob
        return job_of(row)
