"""Refunds in SQL: reserved on the payment's row first, so that together they never exceed what was captured."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from chassis.db import Database, upsert
from chassis.ids import new_id, now
from chassis.outbox import Outbox
from chassis.telemetry import traceparent
from payment import events
from payment.attempts import Also, Attempts, nothing
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
    Waits,
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
    def __init__(
        self, db: Database, outbox: Outbox, parse_charge: Callable[[sa.RowMapping], Charge], *, claim: timedelta
    ) -> None:
        self.db = db
        self._outbox = outbox
        self._parse_charge = parse_charge
        self.attempts: Attempts[Refund] = Attempts(db, refunds, _parse, claim=claim)

    async def get_or_reserve(self, tenant: str, wanted: WantedRefund) -> tuple[Refund, bool] | Waits:
        """The key's refund, and whether this call began it. One that failed is begun again: it is still owed.

        Of less where less is left, for then no more is owed; where nothing is left, it is the newest of those that gave
        it back. Raises KeyMismatch, RefundExceedsCaptured.
        """

        def work(conn: sa.Connection) -> tuple[Refund, bool] | Waits:
            captured, left, tenant_name = _lock(conn, tenant, wanted.payment_id)
            known = _find(conn, tenant, wanted.key)
            if known is not None:
                if (known.payment_id, known.asked or known.amount) != (wanted.payment_id, wanted.amount):
                    raise KeyMismatch
                if known.status is not RefundStatus.FAILED:
                    return known, False
            amount = wanted.amount
            if left < amount <= captured:
                if (other := _latest(conn, wanted.payment_id, RefundStatus.PROCESSING)) is not None:
                    return Waits(behind=other)
                if not left and (last := _latest(conn, wanted.payment_id, RefundStatus.SUCCEEDED)) is not None:
                    return last, False
                amount = left
            _reserve(conn, wanted.payment_id, amount)
            posting = self.attempts.about_to_post(now())
            if known is not None:
                return _begin_again(conn, known, amount, posting), True
            return _insert(conn, wanted, amount, posting | {"tenant": tenant, "tenant_name": tenant_name}), True

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
            _, left, tenant_name = _lock(conn, tenant, payment_id)
            # 1 where nothing is left, which the reservation refuses
            wanted = WantedRefund(key=f"{API_KEY}{new_id()}", payment_id=payment_id, amount=amount or left or 1)
            try:
                _reserve(conn, payment_id, wanted.amount)
            except RefundExceedsCaptured:
                return None
            posting = self.attempts.about_to_post(now())
            owner = {"tenant": tenant, "tenant_name": tenant_name}
            made = _insert(conn, wanted, wanted.amount, posting | owner)
            this_key = (refund_keys.c.tenant == tenant, refund_keys.c.key == key)
            conn.execute(sa.update(refund_keys).where(*this_key).values(refund_id=made.id))
            return made, True

        found = await self.db.write(work)
        if found is None:
            raise RefundExceedsCaptured
        return found

    async def settle(
        self, refund: Refund, outcome: Final, *, actor: str = "provider", why: str | None = None, also: Also = nothing
    ) -> Refund | None:
        """Record a final outcome once, and what it means for the payment, in one transaction with whatever `also` does.

        Only of the time that it is about: begun again since, it is another one, perhaps of less.
        """
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
            still_open = (refunds.c.id == refund.id, refunds.c.status == _OPEN, refunds.c.begun == refund.begun)
            update = sa.update(refunds).where(*still_open).values(values).returning(refunds)
            if (row := conn.execute(update).mappings().one_or_none()) is None:
                return None
            settled = _parse(row)
            record_move(conn, settled, before=refund.status, actor=actor, reason=why)
            if done:
                self._tell_payment(conn, settled, actor)
            else:
                _release(conn, settled)
            also(conn)
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
        tenant = {"tenant": charge.tenant, "tenant_name": charge.tenant_name}
        self._outbox.add(conn, event, **tenant, aggregate_id=charge.id, parent=refund.traceparent)


def _known(conn: sa.Connection, tenant: str, key: str, body_hash: str) -> tuple[Refund, bool] | None:
    """What a key was answered; None for a refusal."""
    this_key = (refund_keys.c.tenant == tenant, refund_keys.c.key == key)
    row = conn.execute(sa.select(refund_keys).where(*this_key)).mappings().one()
    if row["body_hash"] != body_hash:
        raise KeyMismatch
    if row["refund_id"] is None:
        return None
    known = conn.execute(sa.select(refunds).where(refunds.c.id == row["refund_id"])).mappings().one()
    if known["status"] == RefundStatus.PROCESSING and known["claimed_until"] and known["claimed_until"] > now():
        raise KeyInFlight
    return _parse(known), False


def _lock(conn: sa.Connection, tenant: str, payment_id: str) -> tuple[int, int, str]:
    """What was captured, what of it has neither gone back nor is reserved to, and the tenant's name.

    Until the transaction's end no other refund of the payment is begun or settled: on PostgreSQL, of two replicas with
    one key the later would find no refund, and then nothing left to reserve.
    """
    payment = (payments.c.tenant == tenant, payments.c.id == payment_id)
    left = payments.c.amount - payments.c.refunded
    query = sa.select(payments.c.amount, left, payments.c.tenant_name).where(*payment).with_for_update()
    if (row := conn.execute(query).one_or_none()) is None:
        raise PaymentNotFound
    captured, rest, tenant_name = row
    return captured, rest, tenant_name


def _find(conn: sa.Connection, tenant: str, key: str) -> Refund | None:
    row = conn.execute(_by_key(tenant, key)).mappings().one_or_none()
    return _parse(row) if row is not None else None


def _by_key(tenant: str, key: str) -> sa.Select[Any]:
    return sa.select(refunds).where(refunds.c.tenant == tenant, refunds.c.key == key)


def _latest(conn: sa.Connection, payment_id: str, status: RefundStatus) -> Refund | None:
    """The payment's newest refund of that status, whoever asked for it."""
    of_payment = (refunds.c.payment_id == payment_id, refunds.c.status == status)
    row = (
        conn.execute(sa.select(refunds).where(*of_payment).order_by(refunds.c.id.desc()).limit(1))
        .mappings()
        .one_or_none()
    )
    return _parse(row) if row is not None else None


def _reserve(conn: sa.Connection, payment_id: str, amount: int) -> None:
    """Add to what the payment has given back; never more than it captured."""
    after = payments.c.refunded + amount
    fits = (payments.c.id == payment_id, payments.c.status.in_(_REFUNDABLE), after <= payments.c.amount)
    if conn.execute(sa.update(payments).where(*fits).values(refunded=after)).rowcount == 0:
        raise RefundExceedsCaptured


def _release(conn: sa.Connection, failed: Refund) -> None:
    payment = payments.c.id == failed.payment_id
    conn.execute(sa.update(payments).where(payment).values(refunded=payments.c.refunded - failed.amount))


def _insert(conn: sa.Connection, wanted: WantedRefund, amount: int, posting: dict[str, Any]) -> Refund:
    row = posting | {
        "id": new_id(),
        "key": wanted.key,
        "payment_id": wanted.payment_id,
        "amount": amount,
        "asked": wanted.amount,
        "status": RefundStatus.PROCESSING,
        "traceparent": traceparent(),
        "created_at": now(),
    }
    insert = upsert(conn, refunds).values(row).on_conflict_do_nothing().returning(refunds)
    if (made := conn.execute(insert).mappings().one_or_none()) is None:
        raise KeyMismatch  # taken this moment, for a payment that isn't the locked one
    return _parse(made)


def _begin_again(conn: sa.Connection, failed: Refund, amount: int, posting: dict[str, Any]) -> Refund:
    """Of less, where some has gone back in another way since: what failed is certainly not known to the provider."""
    asked = failed.asked or failed.amount
    values = {"status": RefundStatus.PROCESSING, "amount": amount, "asked": asked, "begun": refunds.c.begun + 1}
    values |= {"processed_at": None, "reason": None}
    failed_still = (refunds.c.id == failed.id, refunds.c.status.in_(refund_moves_into(RefundStatus.PROCESSING)))
    update = sa.update(refunds).where(*failed_still).values(values | posting).returning(refunds)
    again = _parse(conn.execute(update).mappings().one())
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


def _parse(row: sa.RowMapping) -> Refund:
    return Refund.model_validate(row)
