"""Orders in SQL, as requests see them. Every move is one conditional update, and its stock and event are in the same
transaction.

A store is made for one tenant, and for a user's own orders, so that no query can forget it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import now
from chassis.saga import StepRecord
from chassis.sealing import Sealer
from chassis.story import Phase
from chassis.telemetry import traceparent
from chassis.tenants import elsewhere
from order import events
from order.announcements import Announcements
from order.catalogs import Catalogs
from order.domain import (
    IllegalMove,
    Location,
    NotYourOrder,
    Order,
    OrderNotFound,
    OrderOfOtherTenant,
    Payment,
    PaymentStatus,
    Status,
    moves_into,
)
from order.event_records import EventRecord, events_of
from order.requests import OrderRequest
from order.rows import INSERT, SELECT, Row, items_json, to_notified, to_order
from order.stock import return_stock, take_stock
from order.tables import orders
from order.timeline import TimelineEntry, record, timeline_of


@dataclass(frozen=True, kw_only=True)
class StoreParts:
    """What every store is made of. For `driver_lease` an order is its inline driver's, and never renewed; for
    `past_timer` an order that the durable driver has is left alone beyond its next timer."""

    db: Database
    announcements: Announcements
    sealer: Sealer
    catalogs: Catalogs
    driver_lease: timedelta
    past_timer: timedelta


class OrderStore:
    def __init__(self, parts: StoreParts, tenant: str, *, owner: str | None = None) -> None:
        self._parts = parts
        self._tenant = tenant
        self._owner = owner

    async def place(self, order_id: str, request: OrderRequest, *, owner: str, tenant_name: str = "") -> Order:
        """Write the order, take its stock and announce it. Raises OutOfStock, or IntegrityError where the id exists."""
        began, parent = now(), traceparent()
        catalog = await self._parts.catalogs.of(self._tenant)
        items, total = catalog.price(request)
        row = {
            "id": order_id,
            "tenant": self._tenant,
            "tenant_name": tenant_name,
            "owner": owner,
            "status": Status.PENDING_PAYMENT,
            "version": 1,
            "customer_id": request.customer.id,
            "customer": request.customer.model_dump_json(by_alias=True),
            "items": items_json.dump_json(items, by_alias=True).decode(),
            "total": str(total.amount),
            "currency": total.currency,
            "location": request.location,
            "payment_method": request.payment.method,
            "payment_status": PaymentStatus.PROCESSING,
            "card_token": self._parts.sealer.seal(request.payment.token),
            "traceparent": parent,
            "created_at": began,
            "lease_until": began + self._parts.driver_lease,
        }
        order = Order(
            id=order_id,
            tenant_id=self._tenant,
            owner=owner,
            status=Status.PENDING_PAYMENT,
            customer=request.customer,
            items=items,
            total=total,
            payment=Payment(),
            location=request.location,
            created_at=began,
            version=1,
        )

        def work(conn: sa.Connection) -> None:
            conn.execute(INSERT, row)
            self._announce(conn, events.OrderCreated, order, tenant_name, parent=parent)
            self._record(conn, order_id, [_done("place", Phase.GIVEN, began)])
            # Last: until the commit everybody waits who orders the same.
            take_stock(conn, self._tenant, order.quantities(), catalog)

        await self._write(work)
        return order

    async def get(self, order_id: str) -> Order:
        return to_order(await self._row(order_id))

    async def find(self, order_id: str) -> Order | None:
        """An order that may not be there yet."""
        try:
            return await self.get(order_id)
        except OrderNotFound:
            return None

    async def page(
        self, *, status: Status | None, customer_id: str | None, before: str | None, limit: int
    ) -> list[Order]:
        """Newest first (ids are UUIDv7), strictly older than `before`."""
        query = sa.select(orders).where(*self._visible()).order_by(orders.c.id.desc()).limit(limit)
        if status is not None:
            query = query.where(orders.c.status == status)
        if customer_id is not None:
            query = query.where(orders.c.customer_id == customer_id)
        if before is not None:
            query = query.where(orders.c.id < before)
        return [to_order(row) for row in await self._parts.db.read(lambda conn: list(conn.execute(query)))]

    async def cancel(self, order_id: str) -> Order:
        """Cancel while nobody has begun to prepare; what is owed is on record and due in the same transaction."""
        parent = traceparent()
        began = now()

        def work(conn: sa.Connection) -> Order:
            paid = orders.c.payment_status == PaymentStatus.SUCCEEDED
            row = self._move(
                conn,
                order_id,
                moves_into(Status.CANCELLED),
                status=Status.CANCELLED,
                payment_status=sa.case((paid, PaymentStatus.REFUND_PENDING), else_=orders.c.payment_status),
                card_token=None,
                lease_until=None,
                due_at=now() + self._parts.driver_lease,
            )
            if row is None:
                return self._already(conn, order_id, Status.CANCELLED)
            order = to_order(row)
            return_stock(conn, self._tenant, order.quantities())
            self._announce(conn, events.OrderCancelled, order, row.tenant_name, parent=parent)
            self._record(conn, order_id, [_done("cancel", Phase.WHEN, began)])
            return order

        return await self._write(work)

    async def advance(self, order_id: str, target: Status, *, tracking_number: str | None = None) -> Order:
        """A move that staff makes. Asked for again it gives the present order and announces nothing."""
        parent = traceparent()

        def work(conn: sa.Connection) -> Order:
            values = {"tracking_number": tracking_number} if tracking_number else {}
            row = self._move(conn, order_id, moves_into(target), _route(target), status=target, **values)
            if row is None:
                return self._already(conn, order_id, target)
            order = to_order(row)
            event = events.OrderShipped if target is Status.SHIPPED else events.OrderStatusChanged
            self._announce(conn, event, order, row.tenant_name, parent=parent)
            return order

        return await self._write(work)

    async def timeline(self, order_id: str) -> list[TimelineEntry]:
        row = await self._row(order_id)
        return await timeline_of(self._parts.db, self._tenant, order_id, to_notified(row))

    async def event_records(self, order_id: str) -> list[EventRecord]:
        await self._row(order_id)
        return await self._parts.db.read(lambda conn: events_of(conn, self._tenant, order_id))

    def _record(self, conn: sa.Connection, order_id: str, records: Sequence[StepRecord]) -> None:
        record(conn, self._tenant, order_id, records)

    async def _write(self, work: Callable[[sa.Connection], Any]) -> Any:
        done = await self._parts.db.write(work)
        self._parts.announcements.wake()
        return done

    async def _row(self, order_id: str) -> Row:
        return await self._parts.db.read(lambda conn: self._select(conn, order_id))

    def _select(self, conn: sa.Connection, order_id: str) -> Row:
        """Raises OrderNotFound, OrderOfOtherTenant or NotYourOrder."""
        if (row := conn.execute(SELECT, self._key(order_id)).one_or_none()) is None:
            raise OrderOfOtherTenant if elsewhere(conn, orders, self._tenant, id=order_id) else OrderNotFound
        if self._owner not in {None, row.owner}:
            raise NotYourOrder
        return row

    def _visible(self) -> list[sa.ColumnElement[bool]]:
        """What every statement of this store is bound to."""
        bound = [orders.c.tenant == self._tenant]
        return bound if self._owner is None else [*bound, orders.c.owner == self._owner]

    def _key(self, order_id: str) -> dict[str, str]:
        return {"of_tenant": self._tenant, "of_id": order_id}

    def _update(
        self, conn: sa.Connection, order_id: str, condition: sa.ColumnElement[bool], **values: Any
    ) -> Row | None:
        this_order = (*self._visible(), orders.c.id == order_id)
        return conn.execute(
            sa.update(orders).where(*this_order, condition).values(values).returning(orders)
        ).one_or_none()

    def _move(
        self,
        conn: sa.Connection,
        order_id: str,
        allowed: Sequence[Status],
        *also: sa.ColumnElement[bool],
        **values: Any,
    ) -> Row | None:
        """The conditional update that every move of the life cycle is."""
        condition = sa.and_(orders.c.status.in_(allowed), *also)
        return self._update(conn, order_id, condition, version=orders.c.version + 1, **values)

    def _already(self, conn: sa.Connection, order_id: str, target: Status) -> Order:
        order = to_order(self._select(conn, order_id))
        if order.status is target:
            return order
        raise IllegalMove(order.status, target)

    def _announce(
        self,
        conn: sa.Connection,
        event: type[events.OrderEvent],
        order: Order,
        tenant_name: str,
        *,
        parent: str,
        **more: str,
    ) -> None:
        self._parts.announcements.add(conn, event, order, tenant_name=tenant_name, parent=parent, more=more)


def _route(target: Status) -> sa.ColumnElement[bool]:
    """Delivery orders leave by shipping, all others over the counter."""
    delivery = orders.c.location == Location.DELIVERY
    if target is Status.SHIPPED:
        return delivery
    if target is Status.DELIVERED:
        return sa.or_(sa.not_(delivery), orders.c.status == Status.SHIPPED)
    return sa.true()


def _done(step: str, phase: Phase, began: datetime) -> StepRecord:
    """A step outside of the saga, up to this moment inside its own transaction."""
    took = round((now() - began).total_seconds() * 1000, 3)
    return StepRecord(step=step, phase=phase, status="completed", started_at=began, duration_ms=took)
