"""Charges in SQL: the unique (tenant, key) row is the idempotency record, written before any provider hears of it."""

from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from chassis.db import Database, upsert_in
from chassis.ids import new_id, now
from chassis.schedule import recheck_delay
from chassis.sealing import Sealer
from chassis.telemetry import traceparent
from payment.attempts import CLAIM, Attempts
from payment.domain import Approved, Charge, Declined, KeyMismatch, PaymentNotFound, Refused, Status, Value
from payment.tables import payments

_FINAL_STATUS = {Approved: Status.SUCCEEDED, Declined: Status.DECLINED, Refused: Status.FAILED}


# Built once: building a statement costs several times what running it does.
_SETTLE = (
    sa.update(payments)
    .where(payments.c.id == sa.bindparam("of_id"), payments.c.status == Status.PROCESSING)
    .values(
        status=sa.bindparam("outcome"),
        transaction_id=sa.bindparam("transaction"),
        reason=sa.bindparam("why"),
        processed_at=sa.bindparam("at"),
        card_token=None,
        next_check_at=None,
        claimed_until=None,
    )
    .returning(payments)
)


@cache
def _insert_once(dialect: str) -> Any:
    return upsert_in(dialect, payments).on_conflict_do_nothing().returning(payments)


class WantedCharge(Value):
    """What somebody asks for; `amount` in minor units."""

    key: str
    order_id: str
    amount: int
    currency: str
    method: str
    card_token: str | None
    settle_only: bool


class Charges:
    def __init__(self, db: Database, sealer: Sealer) -> None:
        self.db = db
        self._sealer = sealer
        self.attempts: Attempts[Charge] = Attempts(db, payments, self.parse)

    async def get_or_insert(self, tenant: str, wanted: WantedCharge, provider: str) -> tuple[Charge, bool]:
        """The key's charge, and whether this call made it: `processing` and claimed, or, for a settlement of nothing,
        final `failed`, so that whoever comes later with the key is not charged either. An open one that is settled is
        given up: nobody posts it again."""
        row = self._new(tenant, wanted, provider)

        def work(conn: sa.Connection) -> tuple[sa.RowMapping, bool]:
            inserted = conn.execute(_insert_once(conn.dialect.name), row)
            if (made := inserted.mappings().one_or_none()) is not None:
                return made, True
            mine = (payments.c.tenant == tenant, payments.c.key == wanted.key)
            known = conn.execute(sa.select(payments).where(*mine)).mappings().one()
            if any(known[name] != getattr(wanted, name) for name in ("order_id", "amount", "currency")):
                raise KeyMismatch
            if wanted.settle_only:
                conn.execute(sa.update(payments).where(*mine).values(given_up=True))
            return known, False

        found, made = await self.db.write(work)
        return self.parse(found), made

    async def get(self, tenant: str, payment_id: str) -> Charge:
        query = sa.select(payments).where(payments.c.tenant == tenant, payments.c.id == payment_id)
        row = await self.db.read(lambda conn: conn.execute(query).mappings().one_or_none())
        if row is None:
            raise PaymentNotFound
        return self.parse(row)

    async def settle(self, charge: Charge, outcome: Approved | Declined | Refused) -> Charge | None:
        """Record a final outcome, once: only a charge that is still processing takes it, and is given back as it is."""
        values: dict[str, Any] = {
            "of_id": charge.id,
            "outcome": _FINAL_STATUS[type(outcome)],
            "transaction": outcome.transaction_id if isinstance(outcome, Approved) else None,
            "why": None if isinstance(outcome, Approved) else outcome.reason[:255],
            "at": now(),
        }
        row = await self.db.write(lambda conn: conn.execute(_SETTLE, values).mappings().one_or_none())
        return self.parse(row) if row is not None else None

    def parse(self, row: sa.RowMapping) -> Charge:
        token = self._sealer.open(row["card_token"]) if row["card_token"] else None
        return Charge.model_validate({**row, "card_token": token})

    def _new(self, tenant: str, wanted: WantedCharge, provider: str) -> dict[str, Any]:
        at = now()
        row: dict[str, Any] = {
            "id": new_id(),
            "tenant": tenant,
            "key": wanted.key,
            "order_id": wanted.order_id,
            "amount": wanted.amount,
            "refunded": 0,
            "currency": wanted.currency,
            "method": wanted.method,
            "provider": provider,
            "attempts": 0,
            "traceparent": traceparent(),
            "created_at": at,
        }
        return row | (_nothing_to_settle(at) if wanted.settle_only else self._about_to_post(at, wanted))

    def _about_to_post(self, at: datetime, wanted: WantedCharge) -> dict[str, Any]:
        return {
            "status": Status.PROCESSING,
            "card_token": self._sealer.seal(wanted.card_token) if wanted.card_token else None,
            "first_posted_at": at,
            "posted_until": at + CLAIM,
            "claimed_until": at + CLAIM,
            "next_check_at": at + CLAIM + recheck_delay(0),
        }


def _nothing_to_settle(at: datetime) -> dict[str, Any]:
    return {"status": Status.FAILED, "reason": "never charged", "processed_at": at}
