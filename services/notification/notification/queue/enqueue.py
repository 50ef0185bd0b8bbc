"""Writing messages down: each effect once, due at once or at its slot, or closed from the start."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from chassis.db import upsert_in
from notification.domain import Notification, Status
from notification.queue.bulk_rate import PACED
from notification.queue.new_notification import row_of
from notification.tables import notifications


def enqueue(
    conn: sa.Connection,
    messages: Sequence[Notification],
    *,
    at: datetime,
    superseded: bool = False,
    slots: Mapping[str, datetime] = MappingProxyType({}),
) -> None:
    """After the commit, wake the sender. Whether their recipients want them is asked when they are claimed. `slots` are
    a bulk's, by id."""
    rows = [_row(message, at, superseded=superseded, slot=slots.get(message.id)) for message in messages]
    if rows:
        conn.execute(_insert(conn.dialect.name), rows)


@cache
def _insert(dialect: str) -> Any:
    """Built once: building a statement costs several times what running it does."""
    return upsert_in(dialect, notifications).on_conflict_do_nothing(
        index_elements=[notifications.c.tenant, notifications.c.effect]
    )


def _row(message: Notification, at: datetime, *, superseded: bool, slot: datetime | None) -> dict[str, Any]:
    row = row_of(message) | {"error": None, "next_attempt_at": None, "lease_until": None}
    if superseded:
        return row | {"lease_until": at, "status": Status.SUPPRESSED, "error": "superseded"}
    if not message.address:
        return row | {"lease_until": at, "status": Status.FAILED, "error": "no address"}
    return row | {"status": Status.QUEUED, "next_attempt_at": slot or at, "error": PACED if slot else None}
