"""What became of a message after a provider took it: told by a receipt, or asked for where none came.

Every statement here is of the system scope, all tenants': a provider knows a message only by the provider's own name
for it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from chassis.db import take_turns, upsert
from chassis.ids import now
from notification.domain import Status
from notification.outcomes import Receipt
from notification.queue.moves import move
from notification.tables import early_receipts, notifications

_LONGEST_ERROR = 255
Row = sa.Row[Any]


def apply(conn: sa.Connection, receipt: Receipt) -> list[Row]:
    """The rows that it moved: the message's, and those that went out in it as a digest. A final one stays as it is.

    A receipt may overtake the commit of the answer that it belongs to. It is kept then, for `take_early`.
    """
    lock_messages(conn, receipt.provider, [receipt.message_id])
    rows = _move(conn, receipt)
    if not rows and conn.execute(_KNOWN, _message(receipt)).first() is None:
        row = _row(receipt) | {"received_at": now()}
        conn.execute(upsert(conn, early_receipts).values(row).on_conflict_do_nothing())
    return rows


def lock_messages(conn: sa.Connection, provider: str, message_ids: Collection[str]) -> None:
    """Before a receipt, or the answer that names its message, is written down: committed at the same moment, neither
    would see the other."""
    take_turns(conn, [f"receipt {provider} {message_id}" for message_id in message_ids])


def take_early(conn: sa.Connection, provider: str, message_ids: Collection[str]) -> list[Row]:
    """The rows moved by what came early for messages whose ids have just been written, in the same transaction. One
    statement where nothing did."""
    early = sorted(
        conn.execute(_TAKE, {"provider_is": provider, "ids": list(message_ids)}), key=lambda row: row.received_at
    )
    receipts = (
        Receipt(provider=provider, message_id=row.message_id, status=Status(row.status), error=row.error or "")
        for row in early
    )
    return [row for receipt in receipts for row in _move(conn, receipt)]


_IS_MESSAGE = sa.and_(
    notifications.c.provider == sa.bindparam("provider_is"),
    notifications.c.provider_message_id == sa.bindparam("message_id_is"),
)
_KNOWN = sa.select(notifications.c.id).where(_IS_MESSAGE).limit(1)
_TAKE = (
    sa.delete(early_receipts)
    .where(
        early_receipts.c.provider == sa.bindparam("provider_is"),
        early_receipts.c.message_id.in_(sa.bindparam("ids", expanding=True)),
    )
    .returning(early_receipts)
)


def _moving(status: Status, which: sa.ColumnElement[bool]) -> sa.Update:
    delivered = status is Status.DELIVERED
    values: dict[str, Any] = {"delivered_at": sa.bindparam("at")} if delivered else {"error": sa.bindparam("reason")}
    return move(status, which, ask_at=None, **values).returning(notifications)


_LAST_WORDS = (Status.DELIVERED, Status.BOUNCED, Status.FAILED)
_MOVE = {status: _moving(status, _IS_MESSAGE) for status in _LAST_WORDS}
_MOVE_DIGEST = {
    status: _moving(status, notifications.c.digest_of.in_(sa.bindparam("carriers", expanding=True)))
    for status in _LAST_WORDS
}


def _move(conn: sa.Connection, receipt: Receipt) -> list[Row]:
    delivered = receipt.status is Status.DELIVERED
    values = {"at": now()} if delivered else {"reason": receipt.error[:_LONGEST_ERROR] or receipt.status.value}
    rows = list(conn.execute(_MOVE[receipt.status], _message(receipt) | values))
    if not rows:
        return []
    carriers = {"carriers": [row.id for row in rows]}
    return rows + list(conn.execute(_MOVE_DIGEST[receipt.status], carriers | values))


def _message(receipt: Receipt) -> dict[str, Any]:
    return {"provider_is": receipt.provider, "message_id_is": receipt.message_id}


def _row(receipt: Receipt) -> dict[str, Any]:
    return {
        "provider": receipt.provider,
        "message_id": receipt.message_id,
        "status": receipt.status,
        "error": receipt.error[:_LONGEST_ERROR] or None,
    }


IN_ONE_RUN = 100
_ASKED_FOR = timedelta(days=3)  # after it was sent; the last question is the one at their end


def claim_status_questions(conn: sa.Connection, patience: timedelta) -> Sequence[Row]:
    """The oldest of the rows that are due, `patience` after their `ask_at`. They are put off in the same transaction:
    whatever dies now, or tells nothing, they come ask_again_at. Who claims at the same moment gets others."""
    at, c = now(), notifications.c
    due = sa.select(notifications).where(c.ask_at <= at - patience).order_by(c.ask_at).limit(IN_ONE_RUN)
    rows = conn.execute(due.with_for_update(skip_locked=True)).all()
    if rows:
        conn.execute(_PUT_OFF, [{"key": row.id, "later": ask_again_at(row.sent_at, at)} for row in rows])
    return rows


_PUT_OFF = (
    sa.update(notifications).where(notifications.c.id == sa.bindparam("key")).values(ask_at=sa.bindparam("later"))
)


def ask_again_at(sent_at: datetime, at: datetime) -> datetime | None:
    """The next `ask_at` of a message that is asked for at `at`: when it is twice as old. None after the last time."""
    end = sent_at + _ASKED_FOR
    return min(at + (at - sent_at), end) if at < end else None
