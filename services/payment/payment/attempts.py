"""What charges and refunds have in common in SQL: one attempt at a provider, claimed by one driver, due for a check.

This is the driver's system scope: rows of any tenant, by id. Requests come in through the tenant's stores.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import now
from chassis.retry_delays import GIVE_UP, recheck_delay
from payment.domain import Charge, Refund

A = TypeVar("A", Charge, Refund)
Also = Callable[[sa.Connection], None]

_OPEN = "processing"


def nothing(_conn: sa.Connection) -> None:
    """The `Also` of who has nothing to add to a transaction."""


class Attempts(Generic[A]):
    """For `claim` an attempt is its driver's: longer than one call to a provider may take."""

    def __init__(self, db: Database, table: sa.Table, parse: Callable[[sa.RowMapping], A], *, claim: timedelta) -> None:
        self.db = db
        self._table = table
        self._claim = claim
        self._select = sa.select(table).where(table.c.id == sa.bindparam("of_id"))
        self._parse = parse

    async def get(self, attempt_id: str) -> A:
        found = await self.db.read(lambda conn: conn.execute(self._select, {"of_id": attempt_id}).mappings().one())
        return self._parse(found)

    async def claim(self, attempt_id: str) -> A | None:
        """Become the one driver of an open attempt; None when it is final or somebody else drives it."""
        table = self._table
        free = sa.or_(table.c.claimed_until.is_(None), table.c.claimed_until < now())
        return await self._update(attempt_id, free, claimed_until=self.claimed_until(now()))

    def claimed_until(self, at: datetime) -> datetime:
        return at + self._claim

    def about_to_post(self, at: datetime) -> dict[str, Any]:
        """Of a row that is written, with its claim, by whoever posts it at once for the first time."""
        until = self.claimed_until(at)
        return {
            "attempts": 0,
            "first_posted_at": at,
            "posted_until": until,
            "claimed_until": until,
            "next_check_at": until + recheck_delay(0),
        }

    async def posting(self, attempt: A) -> A | None:
        """On record before every call that may move money: when the first one was, and until when one may arrive.

        None when somebody else has posted, turned or settled it since `attempt` was read: then nobody posts that.
        """
        first, until = sa.func.coalesce(self._table.c.first_posted_at, now()), self.claimed_until(now())
        values = {"first_posted_at": first, "posted_until": until, "claimed_until": until}
        return await self._update(attempt.id, self._unposted_since(attempt), **values)

    async def still_unknown(self, attempt: A) -> timedelta:
        """Give the claim back and set the next check, unless somebody else posts it by now; how long until then."""
        delay = recheck_delay(attempt.attempts)
        values: dict[str, Any] = {
            "attempts": attempt.attempts + 1,
            "next_check_at": now() + delay,
            "claimed_until": None,
        }
        if attempt.posted_until is not None:
            values["posted_until"] = min(attempt.posted_until, now())  # the call has ended: nothing is on its way
        await self._update(attempt.id, self._unposted_since(attempt), **values)
        return delay

    async def due(self, *, limit: int) -> list[str]:
        query = (
            sa.select(self._table.c.id)
            .where(self._table.c.next_check_at < now())
            .order_by(self._table.c.next_check_at)
            .limit(limit)
        )
        return await self.db.read(lambda conn: list(conn.scalars(query)))

    async def overdue(self) -> int:
        """How many have been unknown for longer than a person should wait to hear of it."""
        table = self._table
        began = sa.func.coalesce(table.c.first_posted_at, table.c.created_at)
        query = sa.select(sa.func.count()).where(table.c.status == _OPEN, began < now() - GIVE_UP)
        return await self.db.read(lambda conn: conn.execute(query).scalar_one())

    async def release_claims(self) -> None:
        """At the start of the only process there is (SQLite): whoever held a claim is dead."""
        claimed = (self._table.c.status == _OPEN, self._table.c.claimed_until.is_not(None))
        values: dict[str, datetime | None] = {"claimed_until": None, "next_check_at": now()}
        await self.db.write(lambda conn: conn.execute(sa.update(self._table).where(*claimed).values(values)))

    def _unposted_since(self, attempt: A) -> sa.ColumnElement[bool]:
        return self._table.c.posted_until.is_not_distinct_from(attempt.posted_until)

    async def _update(self, attempt_id: str, condition: sa.ColumnElement[bool], **values: Any) -> A | None:
        table = self._table
        open_still = (table.c.id == attempt_id, table.c.status == _OPEN, condition)
        query = sa.update(table).where(*open_still).values(values).returning(table)
        row = await self.db.write(lambda conn: conn.execute(query).mappings().one_or_none())
        return self._parse(row) if row is not None else None
