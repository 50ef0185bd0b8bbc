"""Which runs of recurring work there were: the last 50 of each job, on record in the transactions that take and free
its lease."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from chassis.db import Timestamp
from chassis.ids import new_id, now
from chassis.wire import Wire

KEEP = 50


def job_runs_table(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "job_runs",
        metadata,
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error", sa.String(64), nullable=False),
        sa.Column("started_at", Timestamp, nullable=False),
        sa.Column("duration_ms", sa.Float),  # of one that has ended
        sa.Index("ix_job_runs_job", "job", "id"),
    )


class RunStatus(StrEnum):
    """`postponed`: the database or the sidecar was down. `interrupted`: its process ended first. What any of them left
    undone the next one finds."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    POSTPONED = "postponed"
    INTERRUPTED = "interrupted"


class RunView(Wire):
    """`error` is the class of what it failed by; `by` is `scheduler`, `start`, or the subject of the admin who
    asked."""

    started_at: datetime
    duration_ms: float | None
    status: RunStatus
    error: str | None
    by: str


def begin_run(conn: sa.Connection, table: sa.Table, job: str, *, by: str) -> str:
    """Its id. Whoever calls holds the job's lease, so none that stands there as running is alive."""
    dead = sa.update(table).where(table.c.job == job, table.c.status == RunStatus.RUNNING)
    conn.execute(dead.values(status=RunStatus.INTERRUPTED))
    run_id = new_id()
    row = {"id": run_id, "job": job, "by": by, "status": RunStatus.RUNNING, "error": "", "started_at": now()}
    conn.execute(sa.insert(table).values(row))
    newest = sa.select(table.c.id).where(table.c.job == job).order_by(table.c.id.desc()).limit(KEEP)
    conn.execute(sa.delete(table).where(table.c.job == job, table.c.id.not_in(newest)))
    return run_id


def end_run(conn: sa.Connection, table: sa.Table, run_id: str, *, status: RunStatus, error: str, took: float) -> None:
    ended: dict[str, Any] = {"status": status, "error": error[:64], "duration_ms": round(took * 1000, 3)}
    running = (table.c.id == run_id, table.c.status == RunStatus.RUNNING)  # else another process found it interrupted
    conn.execute(sa.update(table).where(*running).values(ended))


def runs_of(conn: sa.Connection, table: sa.Table, job: str) -> list[RunView]:
    """The last ones, newest first."""
    found = conn.execute(sa.select(table).where(table.c.job == job).order_by(table.c.id.desc()).limit(KEEP))
    return [
        RunView(
            started_at=row.started_at,
            duration_ms=row.duration_ms,
            status=RunStatus(row.status),
            error=row.error or None,
            by=row.by,
        )
        for row in found
    ]
