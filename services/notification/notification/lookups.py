"""Receipts that never came: where its provider can be asked what became of a message, it is.

Of the system scope, as receipts.py: all tenants'. What is learnt goes the way of a receipt: it moves what may still
move, and whoever waits for one hears of it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from chassis.db import Database
from chassis.ids import now
from chassis.jobs import Job
from notification.channels.sms import SmsProvider
from notification.channels.sms.wire import SmsStatus
from notification.domain import Status
from notification.receipts import Receipt, Receipts
from notification.tables import notifications

log = structlog.get_logger()

_IN_ONE_RUN = 100
_AT_ONCE = 8
_ASKED_FOR = timedelta(days=3)  # after it was sent; the last question is the one at their end
_LAST_WORDS = {SmsStatus.DELIVERED: Status.DELIVERED, SmsStatus.FAILED: Status.FAILED}

Row = sa.Row[Any]


class LookUps:
    """`providers` by their names, of those that rows with an `ask_at` can have. A receipt may be late by `patience`."""

    def __init__(
        self, *, db: Database, receipts: Receipts, providers: Mapping[str, SmsProvider], patience: timedelta
    ) -> None:
        self._db = db
        self._receipts = receipts
        self._providers = providers
        self._patience = patience

    def job(self) -> Job:
        return Job(name="NotificationLookUps", every=timedelta(minutes=1), work=self.ask)

    async def ask(self) -> None:
        """For all that are due, the oldest first. What is not told now, for whatever reason, is asked again."""
        while await self._ask_some() == _IN_ONE_RUN:
            pass

    async def _ask_some(self) -> int:
        due = await self._db.write(lambda conn: claim(conn, self._patience))
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(row: Row) -> bool:
            async with places:
                return await self._told(row)

        told = await asyncio.gather(*map(one, due))
        if due:
            log.info("lookups.asked", asked=len(due), told=sum(told))
        return len(due)

    async def _told(self, row: Row) -> bool:
        """Whether the provider had a last word."""
        try:
            said = await self._providers[row.provider].status(row.provider_message_id)
            if (status := _LAST_WORDS.get(said)) is None:
                return False
            receipt = Receipt(provider=row.provider, message_id=row.provider_message_id, status=status)
            await self._receipts.take(receipt)
        except Exception as error:  # noqa: BLE001  one message must not keep the others from being asked for
            log.warning("lookup.failed", provider=row.provider, notification_id=row.id, error=type(error).__name__)
            return False
        return True


def claim(conn: sa.Connection, patience: timedelta) -> Sequence[Row]:
    """The oldest of the rows that are due, `patience` after their `ask_at`. They are put off in the same transaction:
    whatever dies now, or tells nothing, they come again. Who claims at the same moment gets others."""
    at, c = now(), notifications.c
    due = sa.select(notifications).where(c.ask_at <= at - patience).order_by(c.ask_at).limit(_IN_ONE_RUN)
    rows = conn.execute(due.with_for_update(skip_locked=True)).all()
    if rows:
        conn.execute(_PUT_OFF, [{"key": row.id, "later": again(row.sent_at, at)} for row in rows])
    return rows


_PUT_OFF = (
    sa.update(notifications).where(notifications.c.id == sa.bindparam("key")).values(ask_at=sa.bindparam("later"))
)


def again(sent_at: datetime, at: datetime) -> datetime | None:
    """The next `ask_at` of a message that is asked for at `at`: when it is twice as old. None after the last time."""
    end = sent_at + _ASKED_FOR
    return min(at + (at - sent_at), end) if at < end else None
