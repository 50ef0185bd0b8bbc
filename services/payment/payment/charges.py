"""Charges in SQL: the unique (tenant, key) row is the idempotency record, written before any provider hears of it."""

from datetime import timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
import structlog

from chassis.db import Database, upsert_in
from chassis.ids import new_id, now
from chassis.outbox import Outbox
from chassis.sealing import Sealer
from chassis.telemetry import traceparent
from payment import events
from payment.attempts import Also, Attempts, nothing
from payment.domain import CAPTURED, Approved, Charge, Declined, Final, KeyMismatch, Refused, Status, Value, moves_into
from payment.moves import record_move
from payment.tables import payments

log = structlog.get_logger()

_FINAL_STATUS = {Approved: Status.SUCCEEDED, Declined: Status.DECLINED, Refused: Status.FAILED}


(_OPEN,) = moves_into(*_FINAL_STATUS.values())  # what is final stays so

# Built once: building a statement costs several times what running it does.
_SETTLE = (
    sa.update(payments)
    .where(
        payments.c.id == sa.bindparam("of_id"),
        payments.c.status == _OPEN,
        payments.c.provider == sa.bindparam("at_provider"),  # one that was left has no more say
    )
    .values(
        status=sa.bindparam("outcome"),
        version=payments.c.version + 1,
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

    tenant_name: str = ""
    key: str
    order_id: str
    amount: int
    currency: str
    method: str
    description: str
    card_token: str | None
    settle_only: bool


class Charges:
    def __init__(self, db: Database, sealer: Sealer, outbox: Outbox, *, claim: timedelta) -> None:
        self.db = db
        self._sealer = sealer
        self._outbox = outbox
        self.attempts: Attempts[Charge] = Attempts(db, payments, self.parse, claim=claim)

    async def get_or_insert(self, tenant: str, wanted: WantedCharge, route: list[str]) -> tuple[Charge, bool]:
        """The key's charge, and whether this call made it: `processing` and claimed, or, for a settlement of nothing,
        final `failed`, so that whoever comes later with the key is not charged either. An open one that is settled is
        given up: nobody posts it again. `route` is the provider, and after it those to turn to."""
        row = self._new(tenant, wanted, route)

        def work(conn: sa.Connection) -> tuple[sa.RowMapping, bool]:
            inserted = conn.execute(_insert_once(conn.dialect.name), row)
            if (made := inserted.mappings().one_or_none()) is not None:
                return self._settled_as_nothing(conn, made) if wanted.settle_only else made, True
            same_key = (payments.c.tenant == tenant, payments.c.key == wanted.key)
            known = conn.execute(sa.select(payments).where(*same_key)).mappings().one()
            if any(known[name] != getattr(wanted, name) for name in ("order_id", "amount", "currency")):
                raise KeyMismatch
            if wanted.settle_only:
                conn.execute(sa.update(payments).where(*same_key).values(given_up=True))
            return known, False

        found, made = await self.db.write(work)
        if made and wanted.settle_only:
            self._outbox.wake()
        return self.parse(found), made

    async def find(self, tenant: str, key: str) -> Charge | None:
        query = sa.select(payments).where(payments.c.tenant == tenant, payments.c.key == key)
        row = await self.db.read(lambda conn: conn.execute(query).mappings().one_or_none())
        return self.parse(row) if row is not None else None

    async def settle(
        self, charge: Charge, outcome: Final, *, actor: str | None = None, why: str | None = None, also: Also = nothing
    ) -> Charge | None:
        """Record a final outcome, once: only a charge that is still processing takes it, and is given back as it is.

        `actor` is who says so; the provider, where nobody else is named. Status, move and event commit together, and
        whatever `also` does.
        """
        who = actor or f"provider {charge.provider}"

        def work(conn: sa.Connection) -> Charge | None:
            if (row := self._settle(conn, charge, outcome, actor=who, why=why)) is None:
                return None
            also(conn)
            return self.parse(row)

        settled = await self.db.write(work)
        if settled is None:
            report_late(charge, outcome, stands=await self.attempts.get(charge.id))
        self._outbox.wake()
        return settled

    def _settle(
        self, conn: sa.Connection, charge: Charge, outcome: Final, *, actor: str, why: str | None = None
    ) -> sa.RowMapping | None:
        values: dict[str, Any] = {
            "of_id": charge.id,
            "at_provider": charge.provider,
            "outcome": _FINAL_STATUS[type(outcome)],
            "transaction": outcome.transaction_id if isinstance(outcome, Approved) else None,
            "why": None if isinstance(outcome, Approved) else outcome.reason[:255],
            "at": now(),
        }
        if (row := conn.execute(_SETTLE, values).mappings().one_or_none()) is None:
            return None
        settled = self.parse(row)
        record_move(conn, settled, before=Status.PROCESSING, actor=actor, reason=why)
        event = events.settled(settled)
        tenant = {"tenant": settled.tenant, "tenant_name": settled.tenant_name}
        self._outbox.add(conn, event, **tenant, aggregate_id=settled.id, parent=settled.traceparent)
        return row

    def _settled_as_nothing(self, conn: sa.Connection, made: sa.RowMapping) -> sa.RowMapping:
        row = self._settle(conn, self.parse(made), Refused(reason="never charged"), actor="order-service")
        return row if row is not None else made

    async def turn_to_next(self, charge: Charge, why: str) -> Charge | None:
        """Leave a provider that certainly has not charged and never will under this key, for the next of the route.

        None where there is none, or somebody else has moved the charge meanwhile.
        """
        following, _, rest = charge.others.partition(",")
        if not following or charge.given_up:
            return None
        unmoved = (
            payments.c.id == charge.id,
            payments.c.status == Status.PROCESSING,
            payments.c.provider == charge.provider,
            payments.c.posted_until.is_not_distinct_from(charge.posted_until),  # nobody has posted it there since
            payments.c.given_up.is_(False),
        )
        values: dict[str, Any] = {
            "provider": following,
            "others": rest,
            "version": payments.c.version + 1,
            "first_posted_at": None,
            "posted_until": None,
            "claimed_until": self.attempts.claimed_until(now()),
        }
        update = sa.update(payments).where(*unmoved).values(values).returning(payments)

        def work(conn: sa.Connection) -> Charge | None:
            if (row := conn.execute(update).mappings().one_or_none()) is None:
                return None
            turned = self.parse(row)
            reason = f"turned to provider {following}: {why}"
            record_move(conn, turned, before=charge.status, actor=f"provider {charge.provider}", reason=reason)
            return turned

        return await self.db.write(work)

    def parse(self, row: sa.RowMapping) -> Charge:
        token = self._sealer.open(row["card_token"]) if row["card_token"] else None
        return Charge.model_validate({**row, "card_token": token})

    def _new(self, tenant: str, wanted: WantedCharge, route: list[str]) -> dict[str, Any]:
        at = now()
        row: dict[str, Any] = {
            "id": new_id(),
            "tenant": tenant,
            "tenant_name": wanted.tenant_name,
            "key": wanted.key,
            "order_id": wanted.order_id,
            "amount": wanted.amount,
            "refunded": 0,
            "currency": wanted.currency,
            "method": wanted.method,
            "description": wanted.description,
            "provider": route[0],
            "others": ",".join(route[1:]),
            "attempts": 0,
            "status": Status.PROCESSING,
            "traceparent": traceparent(),
            "created_at": at,
        }
        if wanted.settle_only:
            return row
        token = self._sealer.seal(wanted.card_token) if wanted.card_token else None
        return row | self.attempts.about_to_post(at) | {"card_token": token}


def report_late(charge: Charge, outcome: Final, *, stands: Charge) -> None:
    """An outcome that came too late is harmless where it says what stands there. Money that isn't booked is not."""
    if isinstance(outcome, Approved):
        booked = (charge.provider, outcome.transaction_id)
        harmless = stands.status in CAPTURED and booked == (stands.provider, stands.transaction_id)
    else:
        harmless = stands.status not in CAPTURED or stands.provider != charge.provider
    if not harmless:
        said = {"outcome": type(outcome).__name__, "provider": charge.provider, "status": stands.status.value}
        log.error("charge.contradicted", payment_id=charge.id, **said)
