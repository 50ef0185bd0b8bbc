"""What happened to an order, step by step: one row a step, its attempts counted."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from chassis.db import Database, upsert, upsert_in
from chassis.saga import StepRecord
from order.domain import Shape
from order.tables import timeline


class TimelineEntry(Shape):
    """`status` is completed, unknown or skipped; `duration_ms` is the last attempt's."""

    step: str
    phase: str
    status: str
    attempts: int
    started_at: datetime
    duration_ms: float
    error: str | None


def record(conn: sa.Connection, tenant: str, order_id: str, records: Sequence[StepRecord]) -> None:
    """A step that ran before keeps its start and counts up; skipping never hides a real attempt."""
    done = [_row(tenant, order_id, one, attempts=1) for one in records if one.status != "skipped"]
    skipped = [_row(tenant, order_id, one, attempts=0) for one in records if one.status == "skipped"]
    if done:
        conn.execute(_once_more(conn.dialect.name), done)
    if skipped:
        conn.execute(upsert(conn, timeline).on_conflict_do_nothing(), skipped)


@cache
def _once_more(dialect: str) -> Any:
    insert = upsert_in(dialect, timeline)
    again = {
        "status": insert.excluded.status,
        "duration_ms": insert.excluded.duration_ms,
        "error": insert.excluded.error,
        "attempts": timeline.c.attempts + 1,
    }
    return insert.on_conflict_do_update(index_elements=list(timeline.primary_key), set_=again)


async def timeline_of(db: Database, tenant: str, order_id: str) -> list[TimelineEntry]:
    query = (
        sa.select(timeline)
        .where(timeline.c.tenant == tenant, timeline.c.order_id == order_id)
        .order_by(timeline.c.started_at, timeline.c.step)
    )
    rows = await db.read(lambda conn: list(conn.execute(query)))
    return [
        TimelineEntry(
            step=row.step,
            phase=row.phase,
            status=row.status,
            attempts=row.attempts,
            started_at=row.started_at,
            duration_ms=row.duration_ms,
            error=row.error or None,
        )
        for row in rows
    ]


def _row(tenant: str, order_id: str, one: StepRecord, *, attempts: int) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "order_id": order_id,
        "step": one.step,
        "phase": one.phase,
        "status": one.status,
        "attempts": attempts,
        "started_at": one.started_at,
        "duration_ms": one.duration_ms,
        "error": one.error[:255],
    }
