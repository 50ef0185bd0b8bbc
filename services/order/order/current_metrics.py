"""What the last minutes came to: orders a minute, and how long their steps took."""

from collections import defaultdict
from datetime import datetime, timedelta
from math import ceil

import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import first_id, now
from order.domain import Shape
from order.tables import orders, timeline
from order.timeline import StepName, StepStatus

MINUTES = 15
_MINUTE = timedelta(minutes=1)
_STEPS = 5000  # of the newest orders: a busy shop's last minutes, and a bounded read


class Minute(Shape):
    """`began` is a whole minute; the last one is not over yet."""

    began: datetime
    orders: int


class StepTimes(Shape):
    """Of those that were completed, `count` of them; the nearest rank."""

    step: StepName
    count: int
    p50_ms: float
    p99_ms: float


class CurrentMetrics(Shape):
    """Of the last 15 minutes; oldest minute first, steps in the order of an order's life."""

    minutes: list[Minute]
    steps: list[StepTimes]


async def current_metrics(db: Database, tenant: str) -> CurrentMetrics:
    minute = now().replace(second=0, microsecond=0)
    begins = [minute - (MINUTES - 1 - n) * _MINUTE for n in range(MINUTES)]

    def read(conn: sa.Connection) -> CurrentMetrics:
        minutes = [Minute(began=began, orders=_placed(conn, tenant, began)) for began in begins]
        return CurrentMetrics(minutes=minutes, steps=_times(conn, tenant, since=begins[0]))

    return await db.read(read)


def _placed(conn: sa.Connection, tenant: str, began: datetime) -> int:
    """An order belongs to the minute in which its id was made."""
    low, high = first_id(began.timestamp()), first_id((began + _MINUTE).timestamp())
    its = (orders.c.tenant == tenant, orders.c.id >= low, orders.c.id < high)
    return conn.execute(sa.select(sa.func.count()).where(*its)).scalar_one()


def _times(conn: sa.Connection, tenant: str, *, since: datetime) -> list[StepTimes]:
    c = timeline.c
    newest = (
        sa.select(c.step, c.status, c.duration_ms)
        .where(c.tenant == tenant, c.order_id >= first_id(since.timestamp()))
        .order_by(c.order_id.desc())
        .limit(_STEPS)
    )
    took: dict[str, list[float]] = defaultdict(list)
    for row in conn.execute(newest):
        if row.status == StepStatus.COMPLETED:
            took[row.step].append(row.duration_ms)
    return [_percentiles(step, sorted(took[step])) for step in StepName if took[step]]


def _percentiles(step: StepName, took: list[float]) -> StepTimes:
    p50, p99 = (took[ceil(len(took) * share) - 1] for share in (0.5, 0.99))
    return StepTimes(step=step, count=len(took), p50_ms=p50, p99_ms=p99)
