"""MetricsCollector: what each hour came to, by tenant. An hour is collected once it is over, and one that was missed is
made up. An order belongs to the hour in which its id was made."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import sqlalchemy as sa

from chassis.db import Database, Timestamp, upsert
from chassis.ids import first_id, now
from chassis.jobs import Job
from order.domain import Money, PaymentStatus, Shape, Status
from order.tables import hourly_metrics, orders, timeline
from order.timeline import StepName, StepStatus

_HOUR = timedelta(hours=1)
_LATE = timedelta(minutes=1)  # what was placed in an hour has been committed by then


class HourlyMetrics(Shape):
    """`byStatus` is how the hour's orders stood at `collectedAt`, `revenue` what was paid of them and not given back;
    `p95Ms` by step, of those that were completed."""

    hour: datetime
    orders: int
    by_status: dict[Status, int]
    revenue: list[Money]
    p95_ms: dict[StepName, float]
    collected_at: datetime


class MetricsCollector:
    def __init__(self, db: Database) -> None:
        self._db = db

    def job(self) -> Job:
        return Job(name="MetricsCollector", every=_HOUR, work=self.collect, at_start=(timedelta(0),))

    async def collect(self) -> None:
        while (hour := await self._db.read(_next_hour)) is not None and hour + _HOUR + _LATE <= now():
            await self._collect(hour)

    async def _collect(self, hour: datetime) -> None:
        rows = await self._db.read(lambda conn: _figures(conn, hour))

        def keep(conn: sa.Connection) -> None:
            conn.execute(upsert(conn, hourly_metrics).on_conflict_do_nothing(), rows)

        await self._db.write(keep)

    async def page(self, tenant: str, *, before: datetime | None, limit: int) -> list[HourlyMetrics]:
        """Newest first, of hours that began before `before`."""
        query = sa.select(hourly_metrics).where(hourly_metrics.c.tenant == tenant)
        query = query.order_by(hourly_metrics.c.hour.desc()).limit(limit)
        if before is not None:
            query = query.where(hourly_metrics.c.hour < sa.literal(before, Timestamp))
        found = await self._db.read(lambda conn: list(conn.execute(query)))
        return [_view(row) for row in found]


def _next_hour(conn: sa.Connection) -> datetime | None:
    """The first one after the last that was collected in which anything was ordered."""
    last = conn.execute(sa.select(sa.func.max(hourly_metrics.c.hour))).scalar_one()
    begins = (last + _HOUR).timestamp() if last is not None else 0
    first = conn.execute(sa.select(sa.func.min(orders.c.id)).where(orders.c.id >= first_id(begins))).scalar_one()
    return _hour_of(first) if first is not None else None


def _hour_of(order_id: str) -> datetime:
    """Of a UUIDv7: its first 48 bits are milliseconds (RFC 9562)."""
    at = datetime.fromtimestamp(int(order_id[:8] + order_id[9:13], 16) / 1000, UTC)
    return at.replace(minute=0, second=0, microsecond=0)


def _figures(conn: sa.Connection, hour: datetime) -> list[dict[str, Any]]:
    """A row for each tenant that ordered anything."""
    low, high = first_id(hour.timestamp()), first_id((hour + _HOUR).timestamp())
    facts = (orders.c.tenant, orders.c.status, orders.c.payment_status, orders.c.currency, orders.c.total)
    its = (orders.c.id >= low, orders.c.id < high)
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    revenue: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in conn.execute(sa.select(*facts, sa.func.count().label("many")).where(*its).group_by(*facts)):
        statuses[row.tenant][row.status] += row.many
        if row.payment_status == PaymentStatus.SUCCEEDED:
            revenue[row.tenant][row.currency] += Decimal(row.total) * row.many
    return [
        {
            "tenant": tenant,
            "hour": hour,
            "orders": counted.total(),
            "by_status": orjson.dumps(counted).decode(),
            "revenue": orjson.dumps({name: str(amount) for name, amount in sorted(revenue[tenant].items())}).decode(),
            "p95_ms": orjson.dumps(_p95(conn, tenant, low, high)).decode(),
            "collected_at": now(),
        }
        for tenant, counted in statuses.items()
    ]


def _p95(conn: sa.Connection, tenant: str, low: str, high: str) -> dict[str, float]:
    """The nearest rank: the least duration that 95 of 100 did not exceed."""
    c = timeline.c
    its = (c.tenant == tenant, c.order_id >= low, c.order_id < high, c.status == StepStatus.COMPLETED)
    place = sa.func.row_number().over(partition_by=c.step, order_by=c.duration_ms).label("place")
    many = sa.func.count().over(partition_by=c.step).label("many")
    ranked = sa.select(c.step, c.duration_ms, place, many).where(*its).subquery()
    reached = ranked.c.place * 100 >= ranked.c.many * 95
    least = sa.select(ranked.c.step, sa.func.min(ranked.c.duration_ms).label("ms")).where(reached)
    return {row.step: row.ms for row in conn.execute(least.group_by(ranked.c.step))}


def _view(row: sa.Row[Any]) -> HourlyMetrics:
    revenue = orjson.loads(row.revenue).items()
    return HourlyMetrics(
        hour=row.hour,
        orders=row.orders,
        by_status=orjson.loads(row.by_status),
        revenue=[Money(amount=Decimal(amount), currency=currency) for currency, amount in revenue],
        p95_ms=orjson.loads(row.p95_ms),
        collected_at=row.collected_at,
    )
