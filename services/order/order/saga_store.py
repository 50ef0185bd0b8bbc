"""Orders in SQL, as the saga's drivers move them, and where every store is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from chassis.edge.auth import Caller
from chassis.ids import now
from chassis.incidents import record_incident
from chassis.saga import Incident, StepRecord
from order import events
from order.declines import WORDS, DeclineCode
from order.domain import Money, Notified, Order, PaymentStatus, Status
from order.rows import CONFIRM, NOTIFIED, to_order
from order.saga import Approved, Declined, OrderRef
from order.stock import return_stock
from order.store import OrderStore, StoreParts
from order.tables import incidents, orders


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What the saga needs to charge an order, or to learn what became of its charge."""

    total: Money
    method: str
    card_token: str | None
    created_at: datetime
    settle_only: bool


class Stores:
    """Makes a store for a tenant."""

    def __init__(self, parts: StoreParts) -> None:
        self._parts = parts

    def of(self, tenant: str) -> "SagaStore":
        """For whoever drives a saga, and for events: the tenant's orders, whoever placed them."""
        return SagaStore(self._parts, tenant)

    async def postpone(self, ref: OrderRef, delay: timedelta) -> bool:
        return await self.of(ref.tenant).postpone(ref.id, delay)

    def visible_to(self, caller: Caller) -> OrderStore:
        """For requests: a user's own orders, all of the tenant's for staff."""
        return OrderStore(self._parts, caller.tenant, owner=caller.owner)


class SagaStore(OrderStore):
    """What the saga's steps and events do, besides: never for a request."""

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

    async def confirm(
        self, ref: OrderRef, paid: Approved, records: Callable[[], list[StepRecord]]
    ) -> tuple[int, Order | None] | None:
        """The order's version when it is confirmed, and the order where that was just now and not earlier; None when it
        is too late and money must go back."""

        def work(conn: sa.Connection) -> tuple[int, Order | None] | None:
            values = {"paid_id": paid.payment_id, "paid_transaction": paid.transaction_id}
            row = conn.execute(CONFIRM, self._key(ref.id) | values).one_or_none()
            if row is not None:
                order = to_order(row)
                self._announce(conn, events.OrderConfirmed, order, row.tenant_name, parent=ref.traceparent)
                self._record(conn, ref.id, records())
                return row.version, order
            known = self._select(conn, ref.id)
            return None if known.status in {Status.CANCELLED, Status.PAYMENT_FAILED} else (known.version, None)

        return await self._write(work)

    async def give_back(
        self, ref: OrderRef, refusal: Declined, records: Callable[[], list[StepRecord]]
    ) -> Order | None:
        """A final no: a pending order fails, and is answered, and its stock returns; one that is over already only
        learns the outcome."""

        def work(conn: sa.Connection) -> Order | None:
            outcome = {
                "payment_status": refusal.status,
                "payment_id": refusal.payment_id,
                "card_token": None,
                "lease_until": None,
                "due_at": None,
            }
            failed = self._fail(conn, ref, refusal.code, **outcome)
            unsettled = orders.c.payment_status == PaymentStatus.PROCESSING
            self._update(conn, ref.id, unsettled, **outcome)
            self._record(conn, ref.id, records())
            return failed

        return await self._write(work)

    async def give_up(self, ref: OrderRef) -> Order | None:
        """A day without an answer: the order fails, and is answered, and its stock returns, but the charge stays to be
        settled."""
        values = {"card_token": None, "lease_until": None, "due_at": now() + self._parts.past_timer}
        return await self._write(lambda conn: self._fail(conn, ref, DeclineCode.NO_ANSWER, **values))

    async def owe_refund(self, ref: OrderRef, paid: Approved) -> bool:
        """Put on record that money must go back; False when it has gone back already."""
        not_yet = orders.c.payment_status != PaymentStatus.REFUNDED
        owed = {
            "payment_status": PaymentStatus.REFUND_PENDING,
            "payment_id": paid.payment_id,
            "transaction_id": paid.transaction_id,
            "due_at": sa.func.coalesce(orders.c.due_at, now() + self._parts.driver_lease),
            "lease_until": None,
        }
        return await self._write(lambda conn: self._update(conn, ref.id, not_yet, **owed) is not None)

    async def refunded(self, ref: OrderRef, records: Callable[[], list[StepRecord]]) -> None:
        def work(conn: sa.Connection) -> None:
            owed = orders.c.payment_status == PaymentStatus.REFUND_PENDING
            self._update(conn, ref.id, owed, payment_status=PaymentStatus.REFUNDED, due_at=None)
            self._record(conn, ref.id, records())

        await self._write(work)

    async def postpone(self, order_id: str, delay: timedelta) -> bool:
        """Nobody drives it here any longer: it is due after `delay`. False when nothing is left to do."""
        open_still = sa.or_(orders.c.lease_until.is_not(None), orders.c.due_at.is_not(None))
        values = {"lease_until": None, "due_at": now() + delay}
        return await self._write(lambda conn: self._update(conn, order_id, open_still, **values) is not None)

    async def stop(self, order_id: str, incident: Incident) -> None:
        """Told again it is known, and stops nothing that has been taken up since."""

        def work(conn: sa.Connection) -> None:
            self._select(conn, order_id)
            if record_incident(conn, incidents, tenant=self._tenant, saga_id=order_id, incident=incident):
                self._update(conn, order_id, sa.true(), lease_until=None, due_at=None)

        await self._write(work)

    async def notified(self, order_id: str, notified: Notified, *, message_id: str, message_version: int) -> None:
        """An older message, or an older word about the same one, changes nothing."""
        last = {"message_id": message_id, "message_version": message_version}
        values = self._key(order_id) | last | {"notice": notified.status, "at": notified.at}
        await self._parts.db.write(lambda conn: conn.execute(NOTIFIED, values))

    async def write_timeline(self, order_id: str, records: Sequence[StepRecord]) -> None:
        await self._parts.db.write(lambda conn: self._record(conn, order_id, records))

    def _fail(self, conn: sa.Connection, ref: OrderRef, code: DeclineCode, **values: Any) -> Order | None:
        values |= {"status": Status.PAYMENT_FAILED, "decline_code": code}
        row = self._move(conn, ref.id, [Status.PENDING_PAYMENT], **values)
        if row is None:
            return None
        order = to_order(row)
        return_stock(conn, self._tenant, order.quantities())
        why = {"parent": ref.traceparent, "reason": WORDS[code], "decline_code": code.value}
        self._announce(conn, events.OrderPaymentFailed, order, row.tenant_name, **why)
        return order
