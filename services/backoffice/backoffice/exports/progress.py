"""How far an export has come, as its workflow writes it down: what was read, and how it ended, with its event."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from backoffice.domain import JobStatus
from backoffice.events import ExportCompleted, ExportEvent, ExportFailed
from backoffice.exports.jobs import Job, job_of, move
from backoffice.exports.link import Links
from backoffice.tables import export_parts, jobs
from chassis.db import Database, upsert
from chassis.export_pages import ExportPage
from chassis.ids import now
from chassis.outbox import Outbox
from chassis.saga import Reference


@dataclass(frozen=True, kw_only=True)
class Part:
    """A page of rows, in the storage as `object`; the next one is behind the id `next`, if there is any."""

    number: int
    object: str
    next: str | None


class Progress:
    def __init__(self, *, db: Database, outbox: Outbox, links: Links) -> None:
        self._db = db
        self._outbox = outbox
        self._links = links

    async def get(self, tenant: str, job_id: str) -> Job:
        query = sa.select(jobs).where(jobs.c.tenant == tenant, jobs.c.id == job_id)
        return await self._db.read(lambda conn: job_of(conn.execute(query).mappings().one()))

    async def take_up(self, reference: Reference) -> Job | None:
        """The job, under way from now on; None where it has ended."""

        def work(conn: sa.Connection) -> Job | None:
            return move(conn, reference.tenant, reference.id, JobStatus.PROCESSING, started_at=now())

        job = await self.get(reference.tenant, reference.id)
        if job.status is JobStatus.QUEUED:
            job = await self._db.write(work) or await self.get(reference.tenant, reference.id)
        return job if job.status is JobStatus.PROCESSING else None

    async def parts(self, job: Job) -> Sequence[Part]:
        query = sa.select(export_parts).where(export_parts.c.job_id == job.id).order_by(export_parts.c.number)
        rows = await self._db.read(lambda conn: conn.execute(query).fetchall())
        return [Part(number=row.number, object=row.object, next=row.next) for row in rows]

    async def last_part(self, job: Job) -> Part | None:
        newest = export_parts.c.number.desc()
        query = sa.select(export_parts).where(export_parts.c.job_id == job.id).order_by(newest).limit(1)
        row = await self._db.read(lambda conn: conn.execute(query).one_or_none())
        return None if row is None else Part(number=row.number, object=row.object, next=row.next)

    async def add_part(self, job: Job, part: Part, page: ExportPage) -> bool:
        """False where the job has ended meanwhile, or another has written this part down: then it does not count."""
        known: dict[str, Any] = {"done": jobs.c.done + len(page.items)}
        if page.columns is not None:
            columns = orjson.dumps([column.model_dump() for column in page.columns]).decode()
            known |= {"columns": columns, "total": page.total}
        row = {"job_id": job.id, "number": part.number, "object": part.object, "next": part.next}
        under_way = (jobs.c.tenant == job.tenant, jobs.c.id == job.id, jobs.c.status == JobStatus.PROCESSING)

        def work(conn: sa.Connection) -> None:
            inserted = upsert(conn, export_parts).values(row).on_conflict_do_nothing()
            for statement in (inserted, sa.update(jobs).where(*under_way).values(known)):
                if conn.execute(statement).rowcount == 0:
                    raise _TooLate

        try:
            await self._db.write(work)
        except _TooLate:
            return False
        return True

    async def complete(self, job: Job, file: str) -> bool:
        """The move and its event; False where the job has ended already."""
        result_url, expires_at = self._links.make(job.id)
        completed = {"rows": job.done, "file_name": file_name(job), "result_url": result_url, "expires_at": expires_at}
        return await self._end(job, JobStatus.COMPLETED, ExportCompleted, completed, file=file)

    async def fail(self, job: Job, message: str) -> bool:
        """The same; `message` is for its user."""
        return await self._end(job, JobStatus.FAILED, ExportFailed, {"error_message": message}, error=message)

    async def forget_parts(self, job: Job) -> None:
        await self._db.write(lambda conn: conn.execute(sa.delete(export_parts).where(export_parts.c.job_id == job.id)))

    async def _end(
        self, job: Job, target: JobStatus, event: type[ExportEvent], told: Mapping[str, Any], **values: Any
    ) -> bool:
        about = {"job_id": job.id, "user_id": job.user_id, "kind": job.export.kind, "format": job.export.format}
        tenant = {"tenant": job.tenant, "tenant_name": job.tenant_name}

        def work(conn: sa.Connection) -> bool:
            moved = move(conn, job.tenant, job.id, target, completed_at=now(), **values)
            if moved is None:
                return False
            fact = event.model_validate({**about, **told, "version": moved.version})
            self._outbox.add(conn, fact, **tenant, aggregate_id=job.id, parent=job.traceparent)
            return True

        ended = await self._db.write(work)
        self._outbox.wake()
        return ended


class _TooLate(Exception):
    """Nothing of it is to be written."""


def file_name(job: Job) -> str:
    """Of letters, digits, `-` and `_` only, whatever the user's id is: it stands in a header, and on a disk."""
    user = re.sub(r"[^A-Za-z0-9_-]", "_", job.user_id)[:64]
    return f"export_{user}_{job.created_at:%Y%m%d}_{job.id}.{job.export.format}"
