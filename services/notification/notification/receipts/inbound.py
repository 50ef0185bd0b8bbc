"""Receipts as providers send them, over the database."""

from collections.abc import Callable, Sequence

import sqlalchemy as sa
import structlog

from chassis.db import Database
from notification.outcomes import Receipt
from notification.queue.delivery_status import Row, apply
from notification.recipients.stop_words import hear, wish_of

log = structlog.get_logger()

Announce = Callable[[sa.Connection, Sequence[Row]], None]


class Receipts:
    """The two over the database. `announce` is told the rows that moved, within the transaction; `wake` is called after
    the commit."""

    def __init__(self, *, db: Database, announce: Announce, wake: Callable[[], None]) -> None:
        self._db = db
        self._announce = announce
        self._wake = wake

    async def take(self, receipt: Receipt) -> None:
        def work(conn: sa.Connection) -> int:
            if rows := apply(conn, receipt):
                self._announce(conn, rows)
            return len(rows)

        if moved := await self._db.write(work):
            self._wake()
        log.info("receipt.taken", provider=receipt.provider, status=receipt.status, moved=moved)

    async def hear(self, *, provider: str, message_id: str, phone: str, text: str) -> None:
        if (wish := wish_of(text)) is None:  # most of what people write; no need of the writer to learn that
            return
        await self._db.write(lambda conn: hear(conn, provider=provider, message_id=message_id, phone=phone, text=text))
        log.info("sms.wish", provider=provider, wish=wish.__name__)
