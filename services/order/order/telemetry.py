"""The order service's own figures and events."""

from datetime import datetime

import sqlalchemy as sa

from chassis.ids import now
from chassis.telemetry import business_event, meter
from order.domain import Order, Status
from order.tables import orders

orders_placed = meter.create_counter("orders_placed_total", description="Orders written")
orders_confirmed = meter.create_counter("orders_confirmed_total", description="Orders paid and confirmed")
orders_failed = meter.create_counter("orders_failed_total", description="Orders that came to nothing, by reason")
order_value = meter.create_histogram("OrderValue", description="Total of a placed order, in its currency")

SPELT = ("OrderValue",)

_by_status = meter.create_gauge("orders_by_status", description="Orders that there are, by status")
_oldest = meter.create_gauge(
    "orders_oldest_unsettled_seconds", unit="s", description="Age of the oldest order that somebody still has to drive"
)


def tell_confirmed(order: Order) -> None:
    """It was placed, paid and confirmed, just now and by this process."""
    orders_confirmed.add(1, {"tenant": order.tenant_id})
    _tell("OrderPlaced", order.customer.id, order.created_at, OrderId=order.id, OrderValue=float(order.total.amount))


def tell_failed(order: Order, reason: str) -> None:
    """It was placed, and came to nothing, just now and by this process."""
    orders_failed.add(1, {"tenant": order.tenant_id, "reason": reason})
    _tell("OrderFailed", order.customer.id, order.created_at, OrderId=order.id, Error=reason)


def tell_refused(customer_id: str, reason: str, *, began: datetime) -> None:
    """It was asked for, and never written."""
    _tell("OrderFailed", customer_id, began, Error=reason)


def _tell(name: str, customer_id: str, began: datetime, **more: str | float) -> None:
    took = round((now() - began).total_seconds() * 1000, 3)
    business_event(name, CustomerId=customer_id, ProcessingTimeMs=took, **more)


def figures(conn: sa.Connection) -> None:
    """By `ix_orders_tenant_status` alone, and by the few rows that the indexes of what is due know."""
    counted = dict.fromkeys(Status, 0)
    counted |= {Status(status): count for status, count in conn.execute(_COUNT)}
    for status, count in counted.items():
        _by_status.set(count, {"status": status.value})
    oldest = conn.execute(_OLDEST).scalar()
    _oldest.set(0.0 if oldest is None else (now() - oldest).total_seconds())


_COUNT = sa.select(orders.c.status, sa.func.count()).group_by(orders.c.status)
_driven = (sa.select(orders.c.created_at).where(due.is_not(None)) for due in (orders.c.lease_until, orders.c.due_at))
_OLDEST = sa.select(sa.func.min(sa.union_all(*_driven).subquery().c.created_at))
