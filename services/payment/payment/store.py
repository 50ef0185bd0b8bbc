"""One tenant's payments, refunds and moves, as requests read them."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa

from chassis.tenants import elsewhere
from payment.charges import Charges
from payment.domain import (
    CAPTURED,
    Charge,
    PaymentNotFound,
    PaymentOfOtherTenant,
    Refund,
    RefundNotFound,
    RefundStatus,
    Status,
)
from payment.tables import moves, payments, refunds

_AT_ONCE = 500


class PaymentStore:
    """Made for one tenant, so that no query can forget it."""

    def __init__(self, charges: Charges, tenant: str) -> None:
        self._charges = charges
        self._db = charges.db
        self._tenant = tenant

    async def get(self, payment_id: str) -> Charge:
        """Raises PaymentNotFound or PaymentOfOtherTenant."""

        def work(conn: sa.Connection) -> sa.RowMapping:
            if (row := self._by_id(conn, payments, payment_id)) is None:
                raise (
                    PaymentOfOtherTenant if elsewhere(conn, payments, self._tenant, id=payment_id) else PaymentNotFound
                )
            return row

        return self._charges.parse(await self._db.read(work))

    async def get_refund(self, refund_id: str) -> Refund:
        def work(conn: sa.Connection) -> sa.RowMapping:
            if (row := self._by_id(conn, refunds, refund_id)) is None:
                raise PaymentOfOtherTenant if elsewhere(conn, refunds, self._tenant, id=refund_id) else RefundNotFound
            return row

        return Refund.model_validate(await self._db.read(work))

    async def page(
        self, *, status: Status | None, order_id: str | None, before: str | None, limit: int
    ) -> list[Charge]:
        """Newest first (ids are UUIDv7), strictly older than `before`."""
        query = self._of_tenant(payments).order_by(payments.c.id.desc()).limit(limit)
        filters = ((payments.c.status, status), (payments.c.order_id, order_id))
        query = query.where(*(column == value for column, value in filters if value is not None))
        if before is not None:
            query = query.where(payments.c.id < before)
        return [self._charges.parse(row) for row in await self._all(query)]

    async def unsettled(self, *, limit: int) -> list[sa.RowMapping]:
        """Charges and refunds whose outcome is not known yet, oldest first: by the index of what is due."""
        waiting = _unsettled(self._tenant)
        return await self._all(sa.select(waiting).order_by(waiting.c.since, waiting.c.id).limit(limit))

    async def refunds_of(self, payment_id: str) -> list[Refund]:
        """Oldest first."""
        query = self._of_tenant(refunds).where(refunds.c.payment_id == payment_id).order_by(refunds.c.id)
        return [Refund.model_validate(row) for row in await self._all(query)]

    async def moves_of(self, payment_id: str) -> list[sa.RowMapping]:
        """Oldest first, the refunds' among them."""
        return await self._all(self._of_tenant(moves).where(moves.c.payment_id == payment_id).order_by(moves.c.id))

    async def settled_on(self, day: date) -> AsyncIterator[sa.RowMapping]:
        """What moved money on that day (UTC), by time: charges captured and refunds given."""
        began = datetime.combine(day, time.min, tzinfo=UTC)
        entries = _entries(self._tenant, began, began + timedelta(days=1))
        query = sa.select(entries).order_by(entries.c.at, entries.c.id).limit(_AT_ONCE)
        rows = await self._all(query)
        while rows:
            for row in rows:
                yield row
            last = rows[-1]
            later = sa.or_(entries.c.at > last["at"], sa.and_(entries.c.at == last["at"], entries.c.id > last["id"]))
            rows = await self._all(query.where(later)) if len(rows) == _AT_ONCE else []

    def _of_tenant(self, table: sa.Table) -> sa.Select[Any]:
        return sa.select(table).where(table.c.tenant == self._tenant)

    def _by_id(self, conn: sa.Connection, table: sa.Table, key: str) -> sa.RowMapping | None:
        return conn.execute(self._of_tenant(table).where(table.c.id == key)).mappings().one_or_none()

    async def _all(self, query: sa.Select[Any]) -> list[sa.RowMapping]:
        return await self._db.read(lambda conn: list(conn.execute(query).mappings()))


def _unsettled(tenant: str) -> sa.Subquery:
    def of(kind: str, table: sa.Table, payment_id: sa.ColumnElement[str]) -> Any:
        columns: list[Any] = [
            sa.literal(kind).label("kind"),
            table.c.id,
            payment_id.label("payment_id"),
            payments.c.order_id,
            payments.c.provider,
            table.c.amount,
            payments.c.currency,
            table.c.attempts,
            table.c.created_at.label("since"),
            table.c.next_check_at,
        ]
        return sa.select(*columns).where(table.c.tenant == tenant, table.c.next_check_at.is_not(None))

    given = of("refund", refunds, refunds.c.payment_id)
    given = given.join_from(refunds, payments, refunds.c.payment_id == payments.c.id)
    return sa.union_all(of("charge", payments, payments.c.id), given).subquery()


def _entries(tenant: str, begin: datetime, end: datetime) -> sa.Subquery:
    """What a provider's ledger has: each charge that it captured, and each refund that it gave."""
    charges = sa.select(
        sa.literal("charge").label("kind"),
        payments.c.processed_at.label("at"),
        payments.c.id,
        payments.c.provider,
        payments.c.order_id,
        payments.c.id.label("payment_id"),
        payments.c.key,
        sa.literal(1).label("begun"),
        payments.c.transaction_id,
        payments.c.amount,
        payments.c.currency,
    ).where(payments.c.tenant == tenant, payments.c.status.in_(CAPTURED), _within(payments, begin, end))
    given = (
        sa.select(
            sa.literal("refund").label("kind"),
            refunds.c.processed_at.label("at"),
            refunds.c.id,
            payments.c.provider,
            payments.c.order_id,
            refunds.c.payment_id,
            refunds.c.key,
            refunds.c.begun,
            refunds.c.transaction_id,
            refunds.c.amount,
            payments.c.currency,
        )
        .join_from(refunds, payments, refunds.c.payment_id == payments.c.id)
        .where(refunds.c.tenant == tenant, refunds.c.status == RefundStatus.SUCCEEDED, _within(refunds, begin, end))
    )
    return sa.union_all(charges, given).subquery()


def _within(table: sa.Table, begin: datetime, end: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.processed_at >= begin, table.c.processed_at < end)
