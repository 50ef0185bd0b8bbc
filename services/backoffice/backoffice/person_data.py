"""One person's data: the files that they have left here and the exports made for them, and the erasure of both."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from backoffice.domain import JobStatus
from backoffice.exports.jobs import job_of
from backoffice.exports.jobs import move as move_job
from backoffice.files.domain import File, FileStatus
from backoffice.files.store import move as move_file
from backoffice.tables import files, jobs, outbox
from chassis.erasure import ERASED
from chassis.ids import now

Rows = list[dict[str, Any]]


def held(conn: sa.Connection, tenant: str, person_id: str) -> dict[str, Rows]:
    return {"files": _files(conn, tenant, person_id), "exports": _exports(conn, tenant, person_id)}


def _files(conn: sa.Connection, tenant: str, person_id: str) -> Rows:
    """Each by the path under which an administrator fetches it."""
    stored = files.c.status == FileStatus.STORED
    query = sa.select(files).where(*_left_by(tenant, person_id), stored).order_by(files.c.id)
    found = [File.model_validate(row) for row in conn.execute(query)]
    return [
        {"path": file.path, "originalFileName": file.original_name, "size": file.size, "createdAt": file.created_at}
        for file in found
    ]


def _exports(conn: sa.Connection, tenant: str, person_id: str) -> Rows:
    """Without links: what is in the files is told of others."""
    query = sa.select(jobs).where(*_made_for(tenant, person_id)).order_by(jobs.c.id)
    found = [job_of(row) for row in conn.execute(query).mappings()]
    return [
        {
            "jobId": job.id,
            "kind": job.export.kind,
            "format": job.export.format,
            "status": job.status,
            "createdAt": job.created_at,
            "startedAt": job.started_at,
            "completedAt": job.completed_at,
        }
        for job in found
    ]


def erase_person(conn: sa.Connection, tenant: str, person_id: str, *, before: datetime) -> bool:
    """Of the time before, nobody finds the files any more that they left or that were made for them; whether there may
    be content to go now, which the sweeps of both find."""
    query = sa.select(files.c.id).where(*_left_by(tenant, person_id), files.c.created_at <= before)
    left = [move_file(conn, file_id, FileStatus.DELETED) for file_id in conn.execute(query).scalars().all()]
    query = sa.select(jobs.c.id).where(*_made_for(tenant, person_id), jobs.c.created_at <= before)
    made = conn.execute(query).scalars().all()
    for job_id in made:
        move_job(conn, tenant, job_id, JobStatus.CANCELLED, completed_at=now())  # where it has not ended
        conn.execute(sa.update(jobs).where(jobs.c.id == job_id).values(user_id=ERASED))
        # A link to what is gone; whom it is for is nobody any more.
        conn.execute(sa.delete(outbox).where(outbox.c.tenant == tenant, outbox.c.aggregate_id == job_id))
    return any(left) or bool(made)


def _left_by(tenant: str, person_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return files.c.tenant == tenant, files.c.uploaded_by == person_id


def _made_for(tenant: str, person_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return jobs.c.tenant == tenant, jobs.c.user_id == person_id
