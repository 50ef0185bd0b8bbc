"""Writing messages down: each effect once, to be sent, to wait for its time, or closed from the start."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa

from chassis.db import upsert_in
from notification.domain import Notification, Status
from notification.recipients.permission import Admitted, admit
from notification.recipients.sending_rules import Hold, Send
from notification.tables import notifications

_FIELDS = [field.name for field in fields(Notification) if field.name not in {"chain", "provider"}]


# --- messages in ---
def enqueue(
    conn: sa.Connection, drafts: Sequence[Notification], *, at: datetime, superseded: bool = False
) -> list[Notification]:
    """Write messages down, each effect once: to be sent, to wait for their time, or closed from the start.

    Answers those that hold a lease now, for `Sender.hand_over` after the commit.
    """
    reachable = [draft for draft in drafts if draft.address and not superseded]
    admitted = {one.message.id: one for one in admit(conn, reachable, at)}
    rows = [_row(draft, admitted.get(draft.id), at, superseded=superseded) for draft in drafts]
    written = _written(conn, rows)
    leased = {row["id"] for row in rows if row["status"] is Status.SENDING and row["id"] in written}
    return [admitted[draft.id].message for draft in drafts if draft.id in leased]


def _written(conn: sa.Connection, rows: list[dict[str, Any]]) -> set[str]:
    """The ids of those that were not there yet."""
    if not rows:
        return set()
    if len(rows) == 1:  # the hot path: its row count says it
        done = conn.execute(_insert(conn.dialect.name), rows[0]).rowcount == 1
        return {rows[0]["id"]} if done else set()
    conn.execute(_insert(conn.dialect.name), rows)
    ids = [row["id"] for row in rows]
    return set(conn.execute(sa.select(notifications.c.id).where(notifications.c.id.in_(ids))).scalars())


@cache
def _insert(dialect: str) -> Any:
    """Built once: building a statement costs several times what running it does."""
    return upsert_in(dialect, notifications).on_conflict_do_nothing(
        index_elements=[notifications.c.tenant, notifications.c.effect]
    )


def _row(draft: Notification, admitted: Admitted | None, at: datetime, *, superseded: bool) -> dict[str, Any]:
    message = admitted.message if admitted else draft
    row: dict[str, Any] = {name: getattr(message, name) for name in _FIELDS}
    row |= {"chain": ",".join(message.chain), "context": orjson.dumps(message.context).decode()}
    row |= {"error": None, "next_attempt_at": None, "lease_until": None}
    ended = row | {"lease_until": at}  # to be told of: see queue.claim
    if superseded:
        return ended | {"status": Status.SUPPRESSED, "error": "superseded"}
    if admitted is None:
        return ended | {"status": Status.FAILED, "error": "no address"}
    match admitted.decision:
        case Send() if message.lease_until is not None:
            return row | {"status": Status.SENDING, "lease_until": message.lease_until}
        case Send():
            return row | {"status": Status.QUEUED, "next_attempt_at": at}
        case Hold(until=until, reason=reason):
            held = {"status": Status.QUEUED, "next_attempt_at": until, "error": reason}
            return row | held | {"digest_of": "" if admitted.digest else None}
        case refused:
            return ended | {"status": Status.SUPPRESSED, "error": refused.reason}


def posting(conn: sa.Connection, notification: Notification, provider: str) -> None:
    """`provider` is about to be asked to send it: whatever dies, it may have it from now on."""
    mine = sa.and_(notifications.c.tenant == notification.tenant, notifications.c.id == notification.id)
    conn.execute(sa.update(notifications).where(mine).values(provider=provider))
