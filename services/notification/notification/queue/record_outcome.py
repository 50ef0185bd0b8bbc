"""How attempts ended, written down many at once. Of the system scope, as queue.claim: rows of every tenant."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from chassis.ids import new_id
from notification.announcements import Moved, moved
from notification.domain import ChannelName, Notification, Status, before
from notification.outcomes import (
    Delivered,
    Down,
    Outcome,
    Postponed,
    Refused,
    Settled,
    Suppressed,
    retry_at,
    status_after,
)
from notification.queue.delivery_status import lock_messages, take_early
from notification.queue.digests import end_carried
from notification.queue.moves import move
from notification.recipients.permission import handed_on
from notification.tables import attempts, notifications

_LONGEST_ERROR = 255
_LONGEST_SUBJECT = 255
_LONGEST_CONTENT = 65_536  # the text of every message; of one in HTML alone its beginning
_SMTP = "smtp"  # an e-mail's receipts name it by our own id


def settle(conn: sa.Connection, settled: Sequence[Settled]) -> list[Moved]:
    """Write down how attempts ended, many at once; what has moved, for the announcements."""
    for provider, ids in sorted(_references(settled).items()):
        lock_messages(conn, provider, ids)
    conn.execute(sa.insert(attempts), [_attempt(attempt) for attempt in settled])
    present = _present(conn, settled)
    moves: list[Moved] = []
    by_status: dict[Status, list[dict[str, Any]]] = defaultdict(list)
    for attempt in settled:
        if not _counts(attempt, present.get(attempt.notification.id)):
            continue
        tries, began = _tried(conn, attempt)
        retry = retry_at(attempts=tries, began=began, at=attempt.at)
        status = status_after(attempt.outcome, retry=retry)
        if (handed := _handed_on(conn, attempt, status)) is not None:
            conn.execute(_hand_on(attempt, handed))
            continue
        by_status[status].append(_ending(attempt, retry if status is Status.QUEUED else None))
        moves.append(moved(attempt.notification, status, _words(attempt.outcome)))
    for status, rows in by_status.items():
        conn.execute(_SETTLE[status], rows)
    moves += end_carried(conn, moves, settled)
    return [move for move in moves if move.status is not Status.QUEUED]


def _present(conn: sa.Connection, settled: Sequence[Settled]) -> dict[str, tuple[Status, datetime | None]]:
    """By id the status and until when it is leased. Locked for this transaction."""
    ids = [attempt.notification.id for attempt in settled]
    return {row.id: (Status(row.status), row.lease_until) for row in conn.execute(_PRESENT, {"ids": ids})}


_PRESENT = (
    sa.select(notifications.c.id, notifications.c.status, notifications.c.lease_until)
    .where(notifications.c.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(notifications.c.id)
    .with_for_update()
)


def _counts(attempt: Settled, present: tuple[Status, datetime | None] | None) -> bool:
    """The attempt of a process whose lease ran out may end while another one sends, or after it has. That it was
    delivered is true whoever has the row by now; any other end is for the holder of its lease to tell."""
    if isinstance(attempt.outcome, Delivered):
        return present is not None and present[0] in before(Status.SENT)
    return present == (Status.SENDING, attempt.notification.lease_until)


def _attempt(attempt: Settled) -> dict[str, Any]:
    return {
        "id": new_id(),
        "notification_id": attempt.notification.id,
        "channel": attempt.notification.channel,
        "provider": getattr(attempt.outcome, "provider", ""),
        "outcome": type(attempt.outcome).__name__.lower(),
        "error": _error(attempt.outcome),
        "ended_at": attempt.at,
    }


def _tried(conn: sa.Connection, attempt: Settled) -> tuple[int, datetime]:
    """How often by its channel, this attempt included, and since when. Each channel has a day of its own."""
    if attempt.notification.attempts == 0 or not isinstance(attempt.outcome, Postponed | Down):
        return 1, attempt.at
    same = sa.and_(
        attempts.c.notification_id == attempt.notification.id, attempts.c.channel == attempt.notification.channel
    )
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
    return _storable(outcome.subject or "")[:_LONGEST_SUBJECT] if isinstance(outcome, Delivered) else ""


def _handed_on(conn: sa.Connection, attempt: Settled, status: Status) -> Notification | None:
    """The message by its next channel: where this one certainly didn't take it, after a day in which nobody knew, and
    at once where it is critical. There a duplicate is better than silence. `status` is how it would end without."""
    hurry = isinstance(attempt.outcome, Postponed) and attempt.notification.critical
    if hurry or isinstance(attempt.outcome, Down) or status in {Status.FAILED, Status.BOUNCED}:
        return handed_on(conn, attempt.notification)
    return None


def _hand_on(attempt: Settled, handed: Notification) -> sa.Update:
    by = {"channel": handed.channel, "chain": ",".join(handed.chain), "address": handed.address, "provider": None}
    tries = {"attempts": notifications.c.attempts + 1, "next_attempt_at": attempt.at, "error": _error(attempt.outcome)}
    return move(Status.QUEUED, notifications.c.id == handed.id, **by, **tries)


def _ending(attempt: Settled, retry: datetime | None) -> dict[str, Any]:
    ending: dict[str, Any] = {
        "key": attempt.notification.id,
        "by": attempt.notification.channel,  # a late word of it may come when it has been handed on
        "to": attempt.notification.address,
        "retry": retry,
        "reason": _error(attempt.outcome),
        "heading": None,
        "said": None,
        "ended": None,
        "who": None,
        "reference": None,
        "parts": None,
        "price": None,
        "asked": None,
    }
    if isinstance(attempt.outcome, Delivered):
        provider, reference = _name(attempt.notification, attempt.outcome)
        ending |= {
            "heading": _words(attempt.outcome) or None,
            "said": _storable(attempt.outcome.content)[:_LONGEST_CONTENT] or None,
            "ended": attempt.at,
            "who": provider,
            "reference": reference,
            "parts": attempt.outcome.segments or None,
            "price": attempt.outcome.cost or None,
            "asked": attempt.at if reference and attempt.outcome.askable else None,
        }
    elif isinstance(attempt.outcome, Postponed):
        ending["who"] = attempt.outcome.provider or None  # may have it
    return ending


def _name(notification: Notification, outcome: Delivered) -> tuple[str | None, str | None]:
    """By what a receipt will name it."""
    if notification.channel is ChannelName.EMAIL:
        return _SMTP, notification.id
    return outcome.provider or None, _storable(outcome.message_id)[:128] or None


def _settling(status: Status) -> sa.Update:
    return move(
        status,
        notifications.c.id == sa.bindparam("key"),
        channel=sa.bindparam("by"),
        address=sa.bindparam("to"),
        attempts=notifications.c.attempts + 1,
        next_attempt_at=sa.bindparam("retry"),
        subject=sa.bindparam("heading"),
        content=sa.bindparam("said"),
        error=sa.bindparam("reason"),
        sent_at=sa.bindparam("ended"),
        provider=sa.bindparam("who"),
        provider_message_id=sa.bindparam("reference"),
        segments=sa.bindparam("parts"),
        cost=sa.bindparam("price"),
        ask_at=sa.bindparam("asked"),
    )


_ENDS = (Status.SENT, Status.BOUNCED, Status.FAILED, Status.SUPPRESSED, Status.QUEUED)
_SETTLE = {status: _settling(status) for status in _ENDS}


def early(conn: sa.Connection, settled: Sequence[Settled]) -> list[sa.Row[Any]]:
    """Applies receipts that were here before the answer was written down; the rows that they moved."""
    return [row for provider, ids in _references(settled).items() for row in take_early(conn, provider, ids)]


def _references(settled: Sequence[Settled]) -> dict[str, list[str]]:
    """The names by which receipts will come, by provider."""
    references: dict[str, list[str]] = defaultdict(list)
    for attempt in settled:
        if isinstance(attempt.outcome, Delivered):
            provider, message_id = _name(attempt.notification, attempt.outcome)
            if provider and message_id:
                references[provider].append(message_id)
    return references
