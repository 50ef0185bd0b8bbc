"""How attempts ended, written down many at once. Of the system scope, as queue.claim: rows of every tenant."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from chassis.ids import new_id
from notification.announcements import Moved, moved
from notification.domain import (
    ChannelName,
    Delivered,
    Down,
    Notification,
    Outcome,
    Postponed,
    Refused,
    Settled,
    Status,
    Suppressed,
    before,
    retry_at,
    status_after,
)
from notification.queue.delivery_status import one_at_a_time, take_early
from notification.queue.digests import end_carried
from notification.recipients.permission import handed_on
from notification.tables import attempts, notifications

_LONGEST_ERROR = 255
_OURS = "smtp"  # an e-mail's receipts name it by our own id


def settle(conn: sa.Connection, settled: Sequence[Settled]) -> list[Moved]:
    """Write down how attempts ended, many at once; what has moved, for the announcements."""
    for provider, ids in sorted(_named(settled).items()):
        one_at_a_time(conn, provider, ids)
    conn.execute(sa.insert(attempts), [_attempt(one) for one in settled])
    present = _present(conn, settled)
    moves: list[Moved] = []
    by_status: dict[Status, list[dict[str, Any]]] = defaultdict(list)
    for one in settled:
        if not _counts(one, present.get(one.notification.id)):
            continue
        tries, began = _tried(conn, one)
        retry = retry_at(attempts=tries, began=began, at=one.at)
        status = status_after(one.outcome, retry=retry)
        if (other := _handed_on(conn, one, status)) is not None:
            conn.execute(_hand_on(one, other))
            continue
        by_status[status].append(_ending(one, retry if status is Status.QUEUED else None))
        moves.append(moved(one.notification, status, _words(one.outcome)))
    for status, rows in by_status.items():
        conn.execute(_SETTLE[status], rows)
    moves += end_carried(conn, moves, settled)
    return [move for move in moves if move.status is not Status.QUEUED]


def _present(conn: sa.Connection, settled: Sequence[Settled]) -> dict[str, tuple[Status, datetime | None]]:
    """By id the status and until when it is leased. Locked for this transaction."""
    c = notifications.c
    ids = [one.notification.id for one in settled]
    query = sa.select(c.id, c.status, c.lease_until).where(c.id.in_(ids)).order_by(c.id).with_for_update()
    return {row.id: (Status(row.status), row.lease_until) for row in conn.execute(query)}


def _counts(one: Settled, present: tuple[Status, datetime | None] | None) -> bool:
    """The attempt of a process whose lease ran out may end while another one sends, or after it has. That it was
    delivered is true whoever has the row by now; any other end is for the holder of its lease to tell."""
    if isinstance(one.outcome, Delivered):
        return present is not None and present[0] in before(Status.SENT)
    return present == (Status.SENDING, one.notification.lease_until)


def _attempt(one: Settled) -> dict[str, Any]:
    return {
        "id": new_id(),
        "notification_id": one.notification.id,
        "channel": one.notification.channel,
        "provider": getattr(one.outcome, "provider", ""),
        "outcome": type(one.outcome).__name__.lower(),
        "error": _error(one.outcome),
        "ended_at": one.at,
    }


def _tried(conn: sa.Connection, one: Settled) -> tuple[int, datetime]:
    """How often by its channel, this attempt included, and since when. Each channel has a day of its own."""
    if one.notification.attempts == 0 or not isinstance(one.outcome, Postponed | Down):
        return 1, one.at
    same = sa.and_(attempts.c.notification_id == one.notification.id, attempts.c.channel == one.notification.channel)
    count, began = conn.execute(sa.select(sa.func.count(), sa.func.min(attempts.c.ended_at)).where(same)).one()
    return count, began


def _error(outcome: Outcome) -> str | None:
    match outcome:
        case Delivered():
            return None
        case Refused(error=error) | Down(error=error) | Postponed(error=error) | Suppressed(reason=error):
            return _storable(error)[:_LONGEST_ERROR]


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL, and whatever can't be written down is sent again."""
    return text.replace("\x00", "")


def _words(outcome: Outcome) -> str:
    return _storable(outcome.subject or "") if isinstance(outcome, Delivered) else ""


def _handed_on(conn: sa.Connection, one: Settled, status: Status) -> Notification | None:
    """The message by its next channel: where this one certainly didn't take it, after a day in which nobody knew, and
    at once where it is critical. There a duplicate is better than silence. `status` is how it would end without."""
    hurry = isinstance(one.outcome, Postponed) and one.notification.critical
    if hurry or isinstance(one.outcome, Down) or status in {Status.FAILED, Status.BOUNCED}:
        return handed_on(conn, one.notification)
    return None


def _hand_on(one: Settled, other: Notification) -> sa.Update:
    by = {"channel": other.channel, "chain": ",".join(other.chain), "address": other.address, "lease_until": None}
    waits = {"status": Status.QUEUED, "next_attempt_at": one.at, "error": _error(one.outcome), "provider": None}
    table = notifications
    return sa.update(table).where(table.c.id == other.id).values(**by, **waits, attempts=table.c.attempts + 1)


def _ending(one: Settled, retry: datetime | None) -> dict[str, Any]:
    ending: dict[str, Any] = {
        "key": one.notification.id,
        "by": one.notification.channel,  # a late word of it may come when it has been handed on
        "to": one.notification.address,
        "retry": retry,
        "reason": _error(one.outcome),
        "heading": None,
        "ended": None,
        "who": None,
        "named": None,
        "parts": None,
        "price": None,
        "asked": None,
    }
    if isinstance(one.outcome, Delivered):
        provider, named = _name(one.notification, one.outcome)
        ending |= {
            "heading": _storable(one.outcome.subject or "") or None,
            "ended": one.at,
            "who": provider,
            "named": named,
            "parts": one.outcome.segments or None,
            "price": one.outcome.cost or None,
            "asked": one.at if named and one.outcome.askable else None,
        }
    elif isinstance(one.outcome, Postponed):
        ending["who"] = one.outcome.provider or None  # may have it
    return ending


def _name(notification: Notification, outcome: Delivered) -> tuple[str | None, str | None]:
    """By what a receipt will name it."""
    if notification.channel is ChannelName.EMAIL:
        return _OURS, notification.id
    return outcome.provider or None, _storable(outcome.message_id)[:128] or None


def _settling(status: Status) -> sa.Update:
    table = notifications
    return (
        sa.update(table)
        .where(table.c.id == sa.bindparam("key"))
        .values(
            status=status,
            channel=sa.bindparam("by"),
            address=sa.bindparam("to"),
            attempts=table.c.attempts + 1,
            next_attempt_at=sa.bindparam("retry"),
            lease_until=None,
            subject=sa.bindparam("heading"),
            error=sa.bindparam("reason"),
            sent_at=sa.bindparam("ended"),
            provider=sa.bindparam("who"),
            provider_message_id=sa.bindparam("named"),
            segments=sa.bindparam("parts"),
            cost=sa.bindparam("price"),
            ask_at=sa.bindparam("asked"),
        )
    )


_ENDS = (Status.SENT, Status.BOUNCED, Status.FAILED, Status.SUPPRESSED, Status.QUEUED)
_SETTLE = {status: _settling(status) for status in _ENDS}


def early(conn: sa.Connection, settled: Sequence[Settled]) -> list[sa.Row[Any]]:
    """Applies receipts that were here before the answer was written down; the rows that they moved."""
    return [row for provider, ids in _named(settled).items() for row in take_early(conn, provider, ids)]


def _named(settled: Sequence[Settled]) -> dict[str, list[str]]:
    """The names by which receipts will come, by provider."""
    named: dict[str, list[str]] = defaultdict(list)
    for one in settled:
        if isinstance(one.outcome, Delivered):
            provider, message_id = _name(one.notification, one.outcome)
            if provider and message_id:
                named[provider].append(message_id)
    return named
