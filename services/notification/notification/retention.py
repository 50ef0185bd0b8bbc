"""Throws out what is only needed for a while. All the rest are records: see docs/operations.md."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import now
from chassis.jobs import Job
from notification.tables import early_receipts, event_processing, keys, password_resets

_BATCH = 1000  # rows by one transaction: others write between two of them

_KEPT: dict[sa.Column[Any], timedelta] = {
    keys.c.created_at: timedelta(hours=24),
    # One whose message is still unknown by then is of none of ours.
    early_receipts.c.received_at: timedelta(days=3),
    # An event may come again for as long as brokers and producers keep it; after that its effects alone refuse it.
    event_processing.c.processed_at: timedelta(days=30),
    # A link is good for an hour, and those of the last hour are counted.
    password_resets.c.created_at: timedelta(days=1),
}


def job(db: Database) -> Job:
    return Job(name="NotificationUpkeep", every=timedelta(minutes=1), work=lambda: sweep(db))


async def sweep(db: Database) -> None:
    for column, kept in _KEPT.items():
        delete = _some_of(column, before=now() - kept)
        while await db.write(lambda conn, delete=delete: conn.execute(delete).rowcount) == _BATCH:
            pass


def _some_of(column: sa.Column[Any], *, before: datetime) -> sa.Delete:
    """As many rows as go at once."""
    key = list(column.table.primary_key.columns)
    return sa.delete(column.table).where(sa.tuple_(*key).in_(sa.select(*key).where(column < before).limit(_BATCH)))
