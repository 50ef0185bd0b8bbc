"""Digests: messages of one category to one recipient that go out as one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from chassis.db import my_turn
from notification.announcements import Moved, moved_row
from notification.domain import DIGEST, Notification, Status
from notification.outcomes import Settled
from notification.queue.moves import move
from notification.queue.new_notification import notification_of
from notification.recipients.permission import DigestKey, digest_key
from notification.tables import notifications


def with_whole_digests(conn: sa.Connection, found: Sequence[sa.Row[Any]], at: datetime) -> list[sa.Row[Any]]:
    """`found`, and what is due beyond the limit and belongs into a digest that is just going out: it is one message,
    not several. So one replica at a time gathers: it waits for rows that another has just found, and which that one
    leaves to it."""
    due_digests = {digest_key(row) for row in found if row.digest_of == ""}
    if not due_digests:
        return list(found)
    if not my_turn(conn, "digests"):
        return [row for row in found if row.digest_of != ""]
    table = notifications
    query = sa.select(table).where(
        table.c.tenant.in_({tenant for tenant, *_ in due_digests}),
        table.c.recipient_id.in_({recipient_id for _, recipient_id, *_ in due_digests}),
        table.c.digest_of == "",
        table.c.status == Status.QUEUED,
        table.c.next_attempt_at <= at,
        table.c.id.not_in([row.id for row in found]),
    )
    rows = conn.execute(query.with_for_update())
    return sorted([*found, *(row for row in rows if digest_key(row) in due_digests)], key=lambda row: row.id)


def gathered(conn: sa.Connection, going: list[Notification]) -> list[Notification]:
    """Digests: of those to one recipient by one channel in one category, the first carries the others."""
    digests: dict[DigestKey, list[Notification]] = defaultdict(list)
    for message in going:
        if message.digest_of == "":
            digests[digest_key(message)].append(message)
    if not digests:
        return going
    carried: set[str] = set()
    carriers: dict[str, Notification] = {}
    for carrier, *others in digests.values():
        ids = [other.id for other in others]
        carried |= set(ids)
        carriers[carrier.id] = replace(carrier, link=DIGEST, digest_of=None)
        own = sa.update(notifications).where(notifications.c.id == carrier.id)
        conn.execute(own.values(link=DIGEST, digest_of=None))
        if ids:
            conn.execute(move(Status.QUEUED, notifications.c.id.in_(ids), digest_of=carrier.id))
    return [carriers.get(message.id, message) for message in going if message.id not in carried]


def carried_by(conn: sa.Connection, carrier_id: str) -> list[Notification]:
    """The messages of a digest beside the one that carries them, oldest first."""
    carried = sa.select(notifications).where(notifications.c.digest_of == carrier_id).order_by(notifications.c.id)
    return [notification_of(row) for row in conn.execute(carried)]


def end_carried(conn: sa.Connection, moves: Sequence[Moved], settled: Sequence[Settled]) -> list[Moved]:
    """A digest's messages share the end of the one that carried them."""
    digests = {end.notification.id: end.at for end in settled if end.notification.link == DIGEST}
    ended_rows: list[Moved] = []
    for moved in moves:
        if moved.id in digests and moved.status is not Status.QUEUED:
            carried = sa.and_(notifications.c.digest_of == moved.id, notifications.c.status == Status.QUEUED)
            sent_at = digests[moved.id] if moved.status is Status.SENT else None
            ended = move(moved.status, carried, sent_at=sent_at).returning(notifications)
            ended_rows += [moved_row(row) for row in conn.execute(ended)]
    return ended_rows
