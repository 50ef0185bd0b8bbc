"""What happened to an order, step by step: one row a step, its attempts counted."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

import sqlalchemy as sa

from chassis.db import Database, upsert, upsert_in
from chassis.saga import StepRecord
from chassis.story import Phase
from order.domain import Notice, Notified, Shape
from order.tables import timeline


class StepName(StrEnum):
    PLACE = "place"
    CHARGE = "charge"
    CONFIRM = "confirm"
    GIVE_BACK = "give_back"
    REFUND = "refund"
    CANCEL = "cancel"
    NOTIFY = "notify"


class StepStatus(StrEnum):
    COMPLETED = "completed"
    UNKNOWN = "unknown"
    FAILED = "failed"
    SKIPPED = "skipped"


class TimelineEntry(Shape):
    """`duration_ms` is the last attempt's. `notify` is another service's step: its status is that of the newest message
    about the order, and how long it took is not known here."""

    step: StepName
    phase: Phase
    status: StepStatus | Notice
    attempts: int
    started_at: datetime
    duration_ms: float | None
    error: str | None


def record(conn: sa.Connection, tenant: str, order_id: str, records: Sequence[StepRecord]) -> None:
    """A step that ran before keeps its start and counts up until it is completed: performed once more by another drive
    of the story, it only finds what it did. Skipping never hides a real attempt."""
    done = [_row(tenant, order_id, step, attempts=1) for step in records if step.status != StepStatus.SKIPPED]
    skipped = [_row(tenant, order_id, step, attempts=0) for step in records if step.status == StepStatus.SKIPPED]
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
    key, open_still = list(timeline.primary_key), timeline.c.status != StepStatus.COMPLETED
    return insert.on_conflict_do_update(index_elements=key, set_=again, where=open_still)


async def timeline_of(
    db: Database, tenant: str, order_id: str, notified: Notified | None = None
) -> list[TimelineEntry]:
    query = (
        sa.select(timeline)
        .where(timeline.c.tenant == tenant, timeline.c.order_id == order_id)
        .order_by(timeline.c.started_at, timeline.c.step)
    )
    rows = await db.read(lambda conn: list(conn.execute(query)))
    steps = [
        TimelineEntry(
            step=StepName(row.step),
            phase=Phase(row.phase),
            status=StepStatus(row.status),
            attempts=row.attempts,
            started_at=row.started_at,
            duration_ms=row.duration_ms,
            error=row.error or None,
        )
        for row in rows
    ]
    return steps if notified is None else sorted([*steps, _notify(notified)], key=lambda step: step.started_at)


def _notify(notified: Notified) -> TimelineEntry:
    return TimelineEntry(
        step=StepName.NOTIFY,
        phase=Phase.THEN,
        status=notified.status,
        attempts=1,
        started_at=notified.at,
        duration_ms=None,
        error=None,
    )


def _row(tenant: str, order_id: str, step: StepRecord, *, attempts: int) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "order_id": order_id,
        "step": step.step,
        "phase": step.phase,
        "status": step.status,
        "attempts": attempts,
        "started_at": step.started_at,
        "duration_ms": step.duration_ms,
        "error": step.error[:255],
    }
