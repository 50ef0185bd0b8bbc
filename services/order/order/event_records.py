"""What was told of an order: its events as the outbox has them, a week long."""

from datetime import datetime

import orjson
import sqlalchemy as sa

from chassis.telemetry import trace_id_in
from order.domain import Shape, Status
from order.tables import outbox


class EventRecord(Shape):
    """`status` and `version` are the order's as the event tells them. `publishedAt` is null while it waits; `error` is
    why it could not be published, `attempts` how often. `traceId` is that of the request or step which caused it."""

    id: str
    type: str
    status: Status
    version: int
    created_at: datetime
    published_at: datetime | None
    attempts: int
    error: str | None
    trace_id: str | None


def events_of(conn: sa.Connection, tenant: str, order_id: str) -> list[EventRecord]:
    """Oldest first."""
    query = sa.select(outbox).where(outbox.c.tenant == tenant, outbox.c.aggregate_id == order_id)
    return [_record(row) for row in conn.execute(query.order_by(outbox.c.seq)).mappings()]


def _record(row: sa.RowMapping) -> EventRecord:
    fact = orjson.loads(row["data"])
    return EventRecord(
        id=row["event_id"],
        type=row["type"],
        status=Status(fact["status"]),
        version=fact["version"],
        created_at=row["created_at"],
        published_at=row["published_at"],
        attempts=row["attempts"],
        error=row["error"],
        trace_id=trace_id_in(row["traceparent"]),
    )
