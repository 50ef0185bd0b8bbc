"""Refunds in SQL: reserved on the payment's row first, so that together they never exceed what was captured."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from chassis.db import Database, upsert
from chassis.ids import new_id, now
from chassis.outbox import Outbox
from chassis.schedule import recheck_delay
from chassis.telemetry import traceparent
from payment import events
from payment.attempts import CLAIM, Attempts
from payment.domain import (
    API_KEY,
    Approved,
    Charge,
    Final,
    KeyInFlight,
    KeyMismatch,
    PaymentNotFound,
    Refund,
    RefundExceedsCaptured,
    RefundStatus,
    Status,
    Value,
    moves_into,
    refund_moves_into,
)
from payment.moves import record_move
from payment.tables import payments, refund_keys, refunds

log = structlog.get_logger()

_KEYS_LIVE = timedelta(hours=24)
_REFUNDABLE = moves_into(Status.PARTIALLY_REFUNDED, Status.REFUNDED)
(_OPEN,) = refund_moves_into(RefundStatus.SUCCEEDED, RefundStatus.FAILED)


class WantedRefund(Value):
    """What somebody asks for; `amount` in minor units."""

    key: str
    payment_id: str
    amount: int


class Refunds:
    def __init__(self, db: Database, outbox: Outbox, parse_charge: Callable[[sa.RowMapping], Charge]) -> None:
        self.db = db
        self._outbox = outbox
        self._parse_charge = parse_charge
        self.attempts: Attempts[Refund] = Attempts(db, refunds, _parse)

    async def get_or_reserve(self, tenant: str, wanted: WantedRefund) -> tuple[Refund, bool]:
        """The key's refund, and whether this call began it. One that failed is begun again: it is still owed."""

        def work(conn: sa.Connection) -> tuple[Refund, bool]:
            _lock(conn, wanted.payment_id)
            known = _find(conn, tenant, wanted.key)
            if known is None:
                _reserve(conn, tenant, wanted)
                insert = upsert(conn, refunds).values(_new(tenant, wanted)).on_conflict_do_nothing().returning(refunds)
                if (made := conn.execute(insert).mappings().one_or_none()) is not None:
                    return _parse(made), True
                _reserve(conn, tenant, wanted, sign=-1)  # another replica was first: give the reservation back
                known = _parse(conn.execute(_by_key(tenant, wanted.key)).mappings().one())
            if (known.payment_id, known.amount) != (wanted.payment_id, wanted.amount):
                raise KeyMismatch
            if known.status is RefundStatus.FAILED and (again := _begin_again(conn, known)) is not None:
                _reserve(conn, tenant, wanted)
                return again, True
            return known, False

        return await self.db.write(work)

    async def get_or_reserve_once(
        self, tenant: str, *, key: str, body_hash: str, payment_id: str, amount: int | None
    ) -> tuple[Refund, bool]:
        """The refund of an Idempotency-Key of the API, and whether this call began it. None is all that is left.

        As Stripe has it: the first answer stands for 24 h, a refusal too; what was never begun is not kept. Raises
        KeyMismatch, KeyInFlight, RefundExceedsCaptured.
        """

        def work(conn: sa.Connection) -> tuple[Refund, bool] | None:
            conn.execute(sa.delete(refund_keys).where(refund_keys.c.created_at < now() - _KEYS_LIVE))
            row = {"tenant": tenant, "key": key, "body_hash": body_hash, "created_at": now()}
            if conn.execute(upsert(conn, refund_keys).values(row).on_conflict_do_nothing()).rowcount == 0:
                return _known(conn, tenant, key, body_hash)
            _lock(conn, payment_id)
            wanted = WantedRefund(
                key=f"{API_KEY}{new_id()}", payment_id=payment_id, amount=amount or _left(conn, tenant, payment_id)
            )
            try:
                _reserve(conn, tenant, wanted)
            except RefundExceedsCaptured:
                return None
            made = conn.execute(sa.insert(refunds).values(_new(tenant, wanted)).returning(refunds)).mappings().one()
            mine = (refund_keys.c.tenant == tenant, refund_keys.c.key == key)
            conn.execute(sa.update(refund_keys).where(*mine).values(refund_id=made["id"]))
            return _parse(made), True

        found = await self.db.write(work)
        if found is None:
            raise RefundExceedsCaptured
        return found

    async def settle(
        self, refund: Refund, outcome: Final, *, actor: str = "provider", why: str | None = None
    ) -> Refund | None:
        """Record a final outcome once, and what it means for the payment, in one transaction."""
        done = isinstance(outcome, Approved)

        def work(conn: sa.Connection) -> Refund | None:
            values = {
                "status": RefundStatus.SUCCEEDED if done else RefundStatus.FAILED,
                "transaction_id": outcome.transaction_id if isinstance(outcome, Approved) else None,
                "reason": None if isinstance(outcome, Approved) else outcome.reason[:255],
                "processed_at": now(),
                "next_check_at": None,
                "claimed_until": None,
            }
            still_open = (refunds.c.id == refund.id, refunds.c.status == _OPEN)
            update = sa.update(refunds).where(*still_open).values(values).returning(refunds)
            if (row := conn.execute(update).mappings().one_or_none()) is None:
                return None
            settled = _parse(row)
            record_move(conn, settled, before=refund.status, actor=actor, reason=why)
            if done:
                self._tell_payment(conn, settled, actor)
            else:
                _reserve(conn, refund.tenant, _wanted(refund), sign=-1)
            return settled

        settled = await self.db.write(work)
        if settled is None:
            stands = await self.attempts.get(refund.id)
            if done != (stands.status is RefundStatus.SUCCEEDED):  # money that is booked otherwise is a person's
                log.error("refund.contradicted", refund_id=refund.id, status=stands.status.value)
        self._outbox.wake()
        return settled

    def _tell_payment(self, conn: sa.Connection, refund: Refund, actor: str) -> None:
        # Locked first: on PostgreSQL two refunds settling at once would each miss the other in their sums.
        locked = conn.execute(sa.select(payments).where(payments.c.id == refund.payment_id).with_for_update())
        before = locked.mappings().one()["status"]
        row = conn.execute(_given_back(refund.payment_id)).mappings().one()
        charge = self._parse_charge(row)
        record_move(conn, charge, before=before, actor=actor, reason=f"refund {refund.id}")
        event = events.refunded(charge, refund)
        self._outbox.add(conn, event, tenant=charge.tenant, aggregate_id=charge.id, parent=refund.traceparent)


def _known(conn: sa.Connection, tenant: str, key: str, body_hash: str) -> tuple[Refund, bool] | None:
    """What a key was answered; None for a refusal."""
    mine = (refund_keys.c.tenant == tenant, refund_keys.c.key == key)
    row = conn.execute(sa.select(refund_keys).where(*mine)).mappings().one()
    if row["body_hash"] != body_hash:
        raise KeyMismatch
    if row["refund_id"] is None:
        return None
    known = conn.execute(sa.select(refunds).where(refunds.c.id == row["refund_id"])).mappings().one()
    if known["status"] == RefundStatus.PROCESSING and known["claimed_until"] and known["claimed_until"] > now():
        raise KeyInFlight
    return _parse(known), False


def _left(conn: sa.Connection, tenant: str, payment_id: str) -> int:
    """What has neither gone back nor is reserved to; 1 where nothing is left, which the reservation refuses."""
    mine = (payments.c.tenant == tenant, payments.c.id == payment_id)
    return conn.execute(sa.select(payments.c.amount - payments.c.refunded).where(*mine)).scalar_one_or_none() or 1


def _lock(conn: sa.Connection, payment_id: str) -> None:
    """On PostgreSQL, of two replicas with one key the later would find no refund, and then nothing left to reserve."""
    conn.execute(sa.select(payments.c.id).where(payments.c.id == payment_id).with_for_update())


def _find(conn: sa.Connection, tenant: str, key: str) -> Refund | None:
    row = conn.execute(_by_key(tenant, key)).mappings().one_or_none()
    return _parse(row) if row is not None else None


def _by_key(tenant: str, key: str) -> sa.Select[Any]:
    return sa.select(refunds).where(refunds.c.tenant == tenant, refunds.c.key == key)


def _reserve(conn: sa.Connection, tenant: str, wanted: WantedRefund, *, sign: int = 1) -> None:
    """Add to (or with `sign=-1` take from) what the payment has given back; never more than it captured."""
    after = payments.c.refunded + sign * wanted.amount
    mine = (payments.c.tenant == tenant, payments.c.id == wanted.payment_id)
    fits = (payments.c.status.in_(_REFUNDABLE), after <= payments.c.amount)
    if conn.execute(sa.update(payments).where(*mine, *fits).values(refunded=after)).rowcount == 1:
        return
    if conn.execute(sa.select(payments.c.id).where(*mine)).one_or_none() is None:
        raise PaymentNotFound
    raise RefundExceedsCaptured


def _begin_again(conn: sa.Connection, failed: Refund) -> Refund | None:
    values = {"status": RefundStatus.PROCESSING, "processed_at": None, "reason": None, **_about_to_post()}
    mine = (refunds.c.id == failed.id, refunds.c.status.in_(refund_moves_into(RefundStatus.PROCESSING)))
    row = conn.execute(sa.update(refunds).where(*mine).values(values).returning(refunds)).mappings().one_or_none()
    if row is None:
        return None
    again = _parse(row)
    record_move(conn, again, before=failed.status, actor="order-service", reason="asked for again: it is still owed")
    return again


def _given_back(payment_id: str) -> Any:
    succeeded = (refunds.c.payment_id == payment_id, refunds.c.status == RefundStatus.SUCCEEDED)
    given_back = sa.select(sa.func.sum(refunds.c.amount)).where(*succeeded).scalar_subquery()
    status = sa.case((given_back >= payments.c.amount, Status.REFUNDED.value), else_=Status.PARTIALLY_REFUNDED.value)
    return (
        sa.update(payments)
        .where(payments.c.id == payment_id, payments.c.status.in_(_REFUNDABLE))
        .values(status=status, version=payments.c.version + 1)
        .returning(payments)
    )


def _wanted(refund: Refund) -> WantedRefund:
    return WantedRefund(key=refund.key, payment_id=refund.payment_id, amount=refund.amount)


def _new(tenant: str, wanted: WantedRefund) -> dict[str, Any]:
    return {
        "id": new_id(),
        "tenant": tenant,
        "key": wanted.key,
        "payment_id": wanted.payment_id,
        "amount": wanted.amount,
        "status": RefundStatus.PROCESSING,
        "traceparent": traceparent(),
        "created_at": now(),
        **_about_to_post(),
    }


def _about_to_post() -> dict[str, Any]:
    at = now()
    return {
        "attempts": 0,
        "first_posted_at": at,
        "posted_until": at + CLAIM,
        "claimed_until": at + CLAIM,
        "next_check_at": at + CLAIM + recheck_delay(0),
    }


def _parse(row: sa.RowMapping) -> Refund:
    return Refund.model_validate(row)
