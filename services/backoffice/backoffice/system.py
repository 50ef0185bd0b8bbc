"""The system scope: rows of every tenant, for sweeps, and for whoever has a link. What a request of somebody who has
signed in sees is never decided here."""

from datetime import datetime

import sqlalchemy as sa

from backoffice.exports.jobs import Job, job_of
from backoffice.tables import jobs
from chassis.db import Database
from chassis.erasure import ERASED


async def open_jobs(db: Database, limit: int) -> list[Job]:
    """Those that have not ended, oldest first."""
    query = sa.select(jobs).where(jobs.c.completed_at.is_(None)).order_by(jobs.c.id).limit(limit)
    return [job_of(row) for row in await db.read(lambda conn: conn.execute(query).mappings().all())]


async def linked_job(db: Database, job_id: str) -> Job | None:
    """Its link's signature says that whoever asks may have its file."""
    query = sa.select(jobs).where(jobs.c.id == job_id)
    row = await db.read(lambda conn: conn.execute(query).mappings().one_or_none())
    return None if row is None else job_of(row)


async def jobs_with_files(db: Database, *, before: datetime, limit: int) -> list[Job]:
    """Completed before that time, or of a person who is erased."""
    old = sa.or_(jobs.c.completed_at < before, jobs.c.user_id == ERASED)
    query = sa.select(jobs).where(jobs.c.file.is_not(None), old).order_by(jobs.c.completed_at).limit(limit)
    return [job_of(row) for row in await db.read(lambda conn: conn.execute(query).mappings().all())]


async def forget_file(db: Database, job: Job) -> None:
    await db.write(lambda conn: conn.execute(sa.update(jobs).where(jobs.c.id == job.id).values(file=None)))
