"""Refunds in SQL: reserved on the payment's row first, so that together they never exceed what was captured."""

from typing import Any

import sqlalchemy as sa

from chassis.db import Database, upsert
from chassis.ids import new_id, now
from chassis.schedule import recheck_delay
from chassis.telemetry import traceparent
from payment.attempts import CLAIM, Attempts
from payment.domain import (
    CAPTURED,
    Approved,
    Declined,
    KeyMismatch,
    PaymentNotFound,
    Refund,
    RefundExceedsCaptured,
    RefundStatus,
    Refused,
    Status,
    Value,
)
from payment.tables import payments, refunds


class WantedRefund(Value):
    """What somebody asks for; `amount` in minor units."""

    key: str
    payment_id: str
    amount: int


class Refunds:
    def __init__(self, db: Database) -> None:
        self.db = db
        self.attempts: Attempts[Refund] = Attempts(db, refunds, _parse)

    async def get_or_reserve(self, tenant: str, wanted: WantedRefund) -> tuple[Refund, bool]:
        """The key's refund, and whether this call began it. One that failed is begun again: it is still owed."""

        def work(conn: sa.Connection) -> tuple[Refund, bool]:
            known = _find(conn, tenant, wanted.key)
            if known is None:
                _reserve(conn, tenant, wanted)
                insert = upsert(conn, refunds).values(_new(tenant, wanted)).on_conflict_do_nothing().returning(refunds)
                if (made := conn.execute(insert).mappings().one_or_none()) is None:
                    _reserve(conn, tenant, wanted, sign=-1)  # another replica was first: give the reservation back
                    return _parse(conn.execute(_by_key(tenant, wanted.key)).mappings().one()), False
                return _parse(made), True
            if (known.payment_id, known.amount) != (wanted.payment_id, wanted.amount):
                raise KeyMismatch
            if known.status is RefundStatus.FAILED and (again := _begin_again(conn, known)) is not None:
                _reserve(conn, tenant, wanted)
                return again, True
            return known, False

        return await self.db.write(work)

    async def settle(self, refund: Refund, outcome: Approved | Declined | Refused) -> Refund | None:
        """Record a final outcome once, and what it means for the payment, in one transaction."""
        done = isinstance(outcome, Approved)

        def work(conn: sa.Connection) -> Refund | None:
            values = {
                "status": RefundStatus.SUCCEEDED if done else RefundStatus.FAILED,
                "reason": None if isinstance(outcome, Approved) else outcome.reason[:255],
                "processed_at": now(),
                "next_check_at": None,
                "claimed_until": None,
            }
            still_open = (refunds.c.id == refund.id, refunds.c.status == RefundStatus.PROCESSING)
            update = sa.update(refunds).where(*still_open).values(values).returning(refunds)
            if (row := conn.execute(update).mappings().one_or_none()) is None:
                return None
            if done:
                _tell_payment(conn, refund.payment_id)
            else:
                wanted = WantedRefund(key=refund.key, payment_id=refund.payment_id, amount=refund.amount)
                _reserve(conn, refund.tenant, wanted, sign=-1)
            return _parse(row)

        return await self.db.write(work)


def _find(conn: sa.Connection, tenant: str, key: str) -> Refund | None:
    row = conn.execute(_by_key(tenant, key)).mappings().one_or_none()
    return _parse(row) if row is not None else None


def _by_key(tenant: str, key: str) -> sa.Select[Any]:
    return sa.select(refunds).where(refunds.c.tenant == tenant, refunds.c.key == key)


def _reserve(conn: sa.Connection, tenant: str, wanted: WantedRefund, *, sign: int = 1) -> None:
    """Add to (or with `sign=-1` take from) what the payment has given back; never more than it captured."""
    after = payments.c.refunded + sign * wanted.amount
    mine = (payments.c.tenant == tenant, payments.c.id == wanted.payment_id)
    fits = (payments.c.status.in_(CAPTURED), after <= payments.c.amount)
    if conn.execute(sa.update(payments).where(*mine, *fits).values(refunded=after)).rowcount == 1:
        return
    if conn.execute(sa.select(payments.c.id).where(*mine)).one_or_none() is None:
        raise PaymentNotFound
    raise RefundExceedsCaptured


def _begin_again(conn: sa.Connection, failed: Refund) -> Refund | None:
    values = {"status": RefundStatus.PROCESSING, "processed_at": None, "reason": None, **_about_to_post()}
    mine = (refunds.c.id == failed.id, refunds.c.status == RefundStatus.FAILED)
    row = conn.execute(sa.update(refunds).where(*mine).values(values).returning(refunds)).mappings().one_or_none()
    return _parse(row) if row is not None else None


def _tell_payment(conn: sa.Connection, payment_id: str) -> None:
    # Locked first: on PostgreSQL two refunds settling at once would each miss the other in their sums.
    conn.execute(sa.select(payments.c.id).where(payments.c.id == payment_id).with_for_update())
    succeeded = (refunds.c.payment_id == payment_id, refunds.c.status == RefundStatus.SUCCEEDED)
    given_back = sa.select(sa.func.sum(refunds.c.amount)).where(*succeeded).scalar_subquery()
    status = sa.case((given_back >= payments.c.amount, Status.REFUNDED.value), else_=Status.PARTIALLY_REFUNDED.value)
    conn.execute(sa.update(payments).where(payments.c.id == payment_id).values(status=status))


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
