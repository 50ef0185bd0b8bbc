"""What the last minutes came to."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import first_id, now
from order.current_metrics import current_metrics
from order.saga import OrderRef
from order.tables import orders, timeline

Placed = Callable[..., Awaitable[OrderRef]]


async def move(db: Database, order_id: str, *, ago: timedelta, took: float) -> None:
    """The order was placed then, and placing it took so many milliseconds."""
    then = first_id((now() - ago).timestamp())[:-12] + order_id[-12:]
    its = timeline.c.order_id == order_id
    await db.write(lambda conn: conn.execute(sa.update(timeline).where(its).values(order_id=then, duration_ms=took)))
    await db.write(lambda conn: conn.execute(sa.update(orders).where(orders.c.id == order_id).values(id=then)))


async def test_orders_are_counted_by_minute_and_steps_by_how_long_they_took(db: Database, placed: Placed):
    for ago, took in ((0, 10.0), (0, 20.0), (1, 90.0), (3, 400.0), (20, 9000.0)):
        ref = await placed(quantity=1)
        await move(db, ref.id, ago=timedelta(minutes=ago), took=took)

    found = await current_metrics(db, "default")

    assert sum(minute.orders for minute in found.minutes) == 4
    by_age = [minute.orders for minute in reversed(found.minutes)]
    assert by_age[3] == 1
    assert sum(by_age[:2]) == 3
    assert [(step.step, step.count, step.p50_ms, step.p99_ms) for step in found.steps] == [("place", 4, 20.0, 400.0)]
    assert (await current_metrics(db, "other")).steps == []
