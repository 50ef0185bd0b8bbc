"""One person's data: what their orders say, and its erasure. Money, items and times stay; whom they were for goes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from chassis.erasure import ERASED, Traces, erase, trace, without
from order.announcements import FEED, key_of
from order.tables import changes, orders, outbox

_TOLD = (
    *("id", "status", "customer", "items", "total", "currency", "location", "tracking_number"),
    *("payment_method", "payment_status", "transaction_id", "notified", "created_at"),
)


def held(conn: sa.Connection, tenant: str, person_id: str) -> list[dict[str, Any]]:
    """The orders for the person, and those that they placed."""
    query = sa.select(*(orders.c[name] for name in _TOLD)).where(_theirs(tenant, person_id)).order_by(orders.c.id)
    rows = [dict(row) for row in conn.execute(query).mappings()]
    return [row | {name: orjson.loads(row[name]) for name in ("customer", "items")} for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was told of a person's orders: to other services, and to whoever watches."""

    events: Traces
    watched: Traces


def told_of(conn: sa.Connection, tenant: str, person_id: str, *, before: datetime) -> Told:
    """Of orders that were placed before that time."""
    ids = sa.select(orders.c.id).where(_theirs(tenant, person_id), orders.c.created_at <= before)
    events = sa.and_(outbox.c.tenant == tenant, outbox.c.aggregate_id.in_(ids))
    watched = sa.and_(changes.c.tenant == tenant, changes.c.topic == FEED, changes.c.key == key_of(person_id))
    return Told(
        events=trace(conn, outbox.c.data, events, person_id, grows=outbox.c.seq),
        watched=trace(conn, changes.c.data, watched, person_id, grows=changes.c.seq),
    )


def erase_person(conn: sa.Connection, tenant: str, person_id: str, *, before: datetime, told: Told) -> None:
    """From orders that were placed before that time, and from what was `told_of` them. Once more, it finds nothing."""
    theirs = sa.and_(_theirs(tenant, person_id), orders.c.created_at <= before)
    erase(conn, told.events, person_id)
    erase(conn, told.watched, person_id, key=ERASED)
    for row in conn.execute(
        sa.select(orders.c.id, orders.c.customer_id, orders.c.customer, orders.c.owner).where(theirs)
    ):
        changed: dict[str, Any] = {"owner": ERASED} if row.owner == person_id else {}
        if row.customer_id == person_id:
            customer = without(orjson.loads(row.customer), person_id)
            changed |= {"customer_id": ERASED, "customer": orjson.dumps(customer).decode()}
        conn.execute(sa.update(orders).where(orders.c.id == row.id).values(changed))


def _theirs(tenant: str, person_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(orders.c.tenant == tenant, sa.or_(orders.c.customer_id == person_id, orders.c.owner == person_id))
