"""Orders in SQL. Every move is one conditional update, and its stock and event are in the same transaction.

A store is made for one tenant, so that no query can forget it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import now
from chassis.outbox import Outbox
from chassis.saga import Phase, StepRecord
from chassis.sealing import Sealer
from chassis.telemetry import traceparent
from order import events
from order.domain import (
    Catalog,
    IllegalMove,
    Location,
    Money,
    Order,
    OrderNotFound,
    OrderRequest,
    Payment,
    PaymentStatus,
    Status,
    moves_into,
)
from order.rows import CONFIRM, INSERT, SELECT, Row, items_json, to_facts, to_order
from order.saga import Approved, Declined, OrderRef
from order.stock import return_stock, take_stock
from order.tables import orders
from order.timeline import TimelineEntry, record, timeline_of

DRIVER_LEASE = timedelta(seconds=10)
HANDED_OVER = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What the saga needs to charge an order, or to learn what became of its charge."""

    total: Money
    method: str
    card_token: str | None
    created_at: datetime
    settle_only: bool


class Stores:
    """Makes a store for a tenant: the one place where the parts meet."""

    def __init__(self, *, db: Database, outbox: Outbox, sealer: Sealer, catalog: Catalog) -> None:
        self.db, self.outbox, self.sealer, self.catalog = db, outbox, sealer, catalog

    def of(self, tenant: str) -> "OrderStore":
        return OrderStore(self, tenant)


class OrderStore:
    def __init__(self, parts: Stores, tenant: str) -> None:
        self._parts = parts
        self._tenant = tenant

    async def place(self, order_id: str, request: OrderRequest, *, owner: str) -> Order:
        """Write the order, take its stock and announce it. Raises OutOfStock, or IntegrityError where the id exists."""
        began, parent = now(), traceparent()
        items, total = self._parts.catalog.price(request)
        row = {
            "id": order_id,
            "tenant": self._tenant,
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
            "lease_until": began + DRIVER_LEASE,
        }
        order = Order(
            id=order_id,
            tenant_id=self._tenant,
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
            take_stock(conn, self._tenant, order.quantities(), self._parts.catalog)
            self._announce(conn, events.OrderCreated, order, parent=parent)
            self._record(conn, order_id, [_done("place", Phase.GIVEN, began)])

        await self._write(work)
        return order

    async def get(self, order_id: str) -> Order:
        return to_order(await self._row(order_id))

    async def find(self, order_id: str) -> Order | None:
        row = await self._parts.db.read(lambda conn: conn.execute(SELECT, self._one(order_id)).one_or_none())
        return to_order(row) if row else None

    async def page(
        self, *, status: Status | None, customer_id: str | None, before: str | None, limit: int
    ) -> list[Order]:
        """Newest first (ids are UUIDv7), strictly older than `before`."""
        query = sa.select(orders).where(orders.c.tenant == self._tenant).order_by(orders.c.id.desc()).limit(limit)
        if status is not None:
            query = query.where(orders.c.status == status)
        if customer_id is not None:
            query = query.where(orders.c.customer_id == customer_id)
        if before is not None:
            query = query.where(orders.c.id < before)
        return [to_order(row) for row in await self._parts.db.read(lambda conn: list(conn.execute(query)))]

    async def to_charge(self, order_id: str) -> Charge:
        row = await self._row(order_id)
        pending = row.status == Status.PENDING_PAYMENT
        return Charge(
            total=Money(amount=Decimal(row.total), currency=row.currency),
            method=row.payment_method,
            card_token=self._parts.sealer.open(row.card_token) if pending and row.card_token else None,
            created_at=row.created_at,
            settle_only=not pending,
        )

    async def confirm(self, ref: OrderRef, paid: Approved, records: Callable[[], list[StepRecord]]) -> int | None:
        """The order's version when it is confirmed, now or earlier; None when it is too late and money must go back."""

        def work(conn: sa.Connection) -> int | None:
            values = {"paid_id": paid.payment_id, "paid_transaction": paid.transaction_id}
            row = conn.execute(CONFIRM, self._one(ref.id) | values).one_or_none()
            if row is not None:
                self._announce(conn, events.OrderConfirmed, to_order(row), parent=ref.traceparent)
                self._record(conn, ref.id, records())
                return row.version
            known = self._select(conn, ref.id)
            return None if known.status in {Status.CANCELLED, Status.PAYMENT_FAILED} else known.version

        return await self._write(work)

    async def give_back(self, ref: OrderRef, refusal: Declined, records: Callable[[], list[StepRecord]]) -> None:
        """A final no: a pending order fails and its stock returns; one that is over already only learns the outcome."""

        def work(conn: sa.Connection) -> None:
            outcome = {
                "payment_status": refusal.status,
                "payment_id": refusal.payment_id,
                "card_token": None,
                "lease_until": None,
                "due_at": None,
            }
            self._fail(conn, ref, refusal.reason, **outcome)
            unsettled = orders.c.payment_status == PaymentStatus.PROCESSING
            self._update(conn, ref.id, unsettled, **outcome)
            self._record(conn, ref.id, records())

        await self._write(work)

    async def give_up(self, ref: OrderRef) -> None:
        """A day without an answer: the order fails and its stock returns, but the charge stays to be settled."""
        values = {"card_token": None, "lease_until": None, "due_at": now() + HANDED_OVER}
        await self._write(lambda conn: self._fail(conn, ref, "the payment could not be completed", **values))

    async def owe_refund(self, ref: OrderRef, paid: Approved) -> bool:
        """Put on record that money must go back; False when it has gone back already."""
        not_yet = orders.c.payment_status != PaymentStatus.REFUNDED
        owed = {
            "payment_status": PaymentStatus.REFUND_PENDING,
            "payment_id": paid.payment_id,
            "transaction_id": paid.transaction_id,
            "due_at": sa.func.coalesce(orders.c.due_at, now() + DRIVER_LEASE),
            "lease_until": None,
        }
        return await self._write(lambda conn: self._update(conn, ref.id, not_yet, **owed) is not None)

    async def refunded(self, ref: OrderRef, records: Callable[[], list[StepRecord]]) -> None:
        def work(conn: sa.Connection) -> None:
            owed = orders.c.payment_status == PaymentStatus.REFUND_PENDING
            self._update(conn, ref.id, owed, payment_status=PaymentStatus.REFUNDED, due_at=None)
            self._record(conn, ref.id, records())

        await self._write(work)

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
                due_at=now() + DRIVER_LEASE,
            )
            if row is None:
                return self._already(conn, order_id, Status.CANCELLED)
            order = to_order(row)
            return_stock(conn, self._tenant, order.quantities())
            self._announce(conn, events.OrderCancelled, order, parent=parent)
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
            self._announce(conn, event, order, parent=parent)
            return order

        return await self._write(work)

    async def hand_over(self, order_id: str) -> bool:
        """The inline driver stops: the durable one is due instead. False when nothing is left to do."""
        open_still = sa.or_(orders.c.lease_until.is_not(None), orders.c.due_at.is_not(None))
        values = {"lease_until": None, "due_at": now() + HANDED_OVER}
        return await self._write(lambda conn: self._update(conn, order_id, open_still, **values) is not None)

    async def postpone(self, order_id: str, until: datetime) -> None:
        """Keep the processor away until `until`, unless the order is settled."""
        await self._write(lambda conn: self._update(conn, order_id, orders.c.due_at.is_not(None), due_at=until))

    async def write_timeline(self, order_id: str, records: Sequence[StepRecord]) -> None:
        await self._parts.db.write(lambda conn: self._record(conn, order_id, records))

    async def timeline(self, order_id: str) -> list[TimelineEntry]:
        await self._row(order_id)
        return await timeline_of(self._parts.db, self._tenant, order_id)

    def _record(self, conn: sa.Connection, order_id: str, records: Sequence[StepRecord]) -> None:
        record(conn, self._tenant, order_id, records)

    async def _write(self, work: Callable[[sa.Connection], Any]) -> Any:
        done = await self._parts.db.write(work)
        self._parts.outbox.wake()
        return done

    async def _row(self, order_id: str) -> Row:
        return await self._parts.db.read(lambda conn: self._select(conn, order_id))

    def _select(self, conn: sa.Connection, order_id: str) -> Row:
        if (row := conn.execute(SELECT, self._one(order_id)).one_or_none()) is None:
            raise OrderNotFound
        return row

    def _one(self, order_id: str) -> dict[str, str]:
        return {"of_tenant": self._tenant, "of_id": order_id}

    def _update(
        self, conn: sa.Connection, order_id: str, condition: sa.ColumnElement[bool], **values: Any
    ) -> Row | None:
        mine = (orders.c.tenant == self._tenant, orders.c.id == order_id)
        return conn.execute(sa.update(orders).where(*mine, condition).values(values).returning(orders)).one_or_none()

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

    def _fail(self, conn: sa.Connection, ref: OrderRef, reason: str, **values: Any) -> None:
        row = self._move(conn, ref.id, [Status.PENDING_PAYMENT], status=Status.PAYMENT_FAILED, **values)
        if row is not None:
            order = to_order(row)
            return_stock(conn, self._tenant, order.quantities())
            self._announce(conn, events.OrderPaymentFailed, order, parent=ref.traceparent, reason=reason)

    def _already(self, conn: sa.Connection, order_id: str, target: Status) -> Order:
        order = to_order(self._select(conn, order_id))
        if order.status is target:
            return order
        raise IllegalMove(order.status, target)

    def _announce(
        self, conn: sa.Connection, event: type[events.OrderEvent], order: Order, *, parent: str, **more: str
    ) -> None:
        told = event.model_validate(to_facts(order) | more)
        self._parts.outbox.add(conn, told, tenant=self._tenant, aggregate_id=order.id, parent=parent)


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
