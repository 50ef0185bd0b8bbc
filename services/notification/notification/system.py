"""The system scope: rows of every tenant. Named and kept apart, because what a request sees is never decided here."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from chassis.ids import new_id, now
from chassis.schedule import GIVE_UP
from notification.admission import Admitted, admit, handed_on
from notification.announcements import Moved, moved, moved_row
from notification.domain import (
    ChannelName,
    Delivered,
    Down,
    Notification,
    Outcome,
    Postponed,
    Refused,
    Status,
    before,
    retry_at,
    status_after,
)
from notification.policy import Hold, Send
from notification.receipts import take_early
from notification.tables import attempts, notifications, subjects

DIGEST = "digest"  # the `link` of a message that carries others

_LONGEST_ERROR = 255
_OURS = "smtp"  # an e-mail's receipts name it by our own id


def tenant_of(conn: sa.Connection, table: sa.Table, key: str) -> str | None:
    """Whose a row is that was missed: it alone tells "another tenant's" from "there is none"."""
    return conn.execute(sa.select(table.c.tenant).where(table.c.id == key)).scalar_one_or_none()


# --- the sender's view: what is due, whoever's it is ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One attempt, ended at `at`."""

    notification: Notification
    outcome: Outcome
    at: datetime


def _due(at: datetime) -> sa.ColumnElement[bool]:
    """Its time has come, or the process that had it is gone. Each column is null in every other status."""
    return sa.or_(notifications.c.next_attempt_at <= at, notifications.c.lease_until <= at)


def any_due(conn: sa.Connection) -> bool:
    return conn.execute(sa.select(notifications.c.id).where(_due(now())).limit(1)).first() is not None


def claim(conn: sa.Connection, *, lease_until: datetime, limit: int) -> list[Notification]:
    """Lease the oldest due rows, each to one process only. Those that a newer event has overtaken are closed; those
    that their recipient does not want, or not now, are closed or put off."""
    at = now()
    _supersede(conn, at)
    due = sa.select(notifications.c.id).where(_due(at)).order_by(notifications.c.id).limit(limit)
    claimed = (
        sa.update(notifications)
        # Two replicas: the second skips what the first is just claiming. SQLite has one writer anyway.
        .where(notifications.c.id.in_(due.with_for_update(skip_locked=True)), _due(at))
        .values(status=Status.SENDING, lease_until=lease_until, next_attempt_at=None)
        .returning(notifications)
    )
    rows = sorted((notification_of(row) for row in conn.execute(claimed)), key=lambda one: one.id)
    admitted = admit(conn, rows, at)
    for before_, one in zip(rows, admitted, strict=True):
        _put_off(conn, before_, one)
    going = [one.message for one in admitted if isinstance(one.decision, Send)]
    return _gathered(conn, going)


def _put_off(conn: sa.Connection, was: Notification, one: Admitted) -> None:
    """What admission says of a row that was just claimed, where it isn't "as it is, at once"."""
    values: dict[str, Any] = {}
    if one.message.channel is not was.channel:
        values = {"channel": one.message.channel, "chain": ",".join(one.message.chain), "address": one.message.address}
    match one.decision:
        case Send():
            pass
        case Hold(until=until, reason=reason):
            held = {"status": Status.QUEUED, "lease_until": None, "next_attempt_at": until, "error": reason}
            # One that carries others already waits alone: carried itself, it would take its own nowhere.
            values |= held | {"digest_of": "" if one.digest and was.link != DIGEST else None}
        case refused:
            values |= {"status": Status.SUPPRESSED, "lease_until": None, "error": refused.reason}
            carried = sa.and_(notifications.c.digest_of == was.id, notifications.c.status == Status.QUEUED)
            conn.execute(sa.update(notifications).where(carried).values(status=Status.SUPPRESSED, error=refused.reason))
    if values:
        conn.execute(sa.update(notifications).where(notifications.c.id == was.id).values(values))


def _gathered(conn: sa.Connection, going: list[Notification]) -> list[Notification]:
    """Digests: of those to one recipient by one channel in one category, the first carries the others."""
    digests: dict[tuple[str, ...], list[Notification]] = defaultdict(list)
    for one in going:
        if one.digest_of == "":
            digests[one.tenant, one.recipient_id, one.channel, one.category, one.address].append(one)
    if not digests:
        return going
    carried: set[str] = set()
    carriers: dict[str, Notification] = {}
    for carrier, *others in digests.values():
        ids = [one.id for one in others]
        carried |= set(ids)
        carriers[carrier.id] = replace(carrier, link=DIGEST, digest_of=None)
        own = sa.update(notifications).where(notifications.c.id == carrier.id)
        conn.execute(own.values(link=DIGEST, digest_of=None))
        if ids:
            waiting = {"status": Status.QUEUED, "lease_until": None, "digest_of": carrier.id}
            conn.execute(sa.update(notifications).where(notifications.c.id.in_(ids)).values(waiting))
    return [carriers.get(one.id, one) for one in going if one.id not in carried]


def carried_by(conn: sa.Connection, carrier_id: str) -> list[Notification]:
    """The messages of a digest beside the one that carries them, oldest first."""
    mine = sa.select(notifications).where(notifications.c.digest_of == carrier_id).order_by(notifications.c.id)
    return [notification_of(row) for row in conn.execute(mine)]


def _supersede(conn: sa.Connection, at: datetime) -> None:
    newer = sa.exists().where(
        subjects.c.tenant == notifications.c.tenant,
        subjects.c.topic == notifications.c.topic,
        subjects.c.subject_id == notifications.c.subject_id,
        subjects.c.version > notifications.c.version,
    )
    # Not what carries others: they are not overtaken with it.
    overtaken = sa.and_(_due(at), notifications.c.latest_only.is_(True), notifications.c.link != DIGEST, newer)
    closed = {"status": Status.SUPPRESSED, "error": "superseded", "next_attempt_at": None, "lease_until": None}
    conn.execute(sa.update(notifications).where(overtaken).values(closed))


_FIELDS = [one.name for one in fields(Notification) if one.name != "not_before"]


def notification_of(row: sa.Row[Any]) -> Notification:
    values: dict[str, Any] = {name: getattr(row, name) for name in _FIELDS}
    chain = tuple(ChannelName(name) for name in row.chain.split(",") if name)
    values |= {"channel": ChannelName(row.channel), "chain": chain, "context": orjson.loads(row.context)}
    return Notification(**values)


# --- how attempts ended ---


def settle(conn: sa.Connection, settled: Sequence[Settled]) -> list[Moved]:
    """Write down how attempts ended, many at once; what has moved, for the announcements.

    The attempt of a process whose lease ran out may end after another one's: only what may still move does.
    """
    conn.execute(sa.insert(attempts), [_attempt(one) for one in settled])
    ids = [one.notification.id for one in settled]
    known = sa.select(notifications.c.id, notifications.c.status).where(notifications.c.id.in_(ids))
    present = {row.id: Status(row.status) for row in conn.execute(known.with_for_update())}
    moves: list[Moved] = []
    by_status: dict[Status, list[dict[str, Any]]] = defaultdict(list)
    for one in settled:
        if (other := _handed_on(conn, one, present)) is not None:
            conn.execute(_hand_on(one, other))
            continue
        retry = retry_at(attempts=one.notification.attempts + 1, created_at=_began(conn, one), at=one.at)
        status = status_after(one.outcome, retry=retry)
        if present.get(one.notification.id) not in before(status):
            continue
        by_status[status].append(_ending(one, retry if status is Status.QUEUED else None))
        moves.append(moved(one.notification, status, _words(one.outcome)))
    for status, rows in by_status.items():
        conn.execute(_SETTLE[status], rows)
    moves += _carried(conn, moves, settled)
    return [move for move in moves if move.status is not Status.QUEUED]


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


def _began(conn: sa.Connection, one: Settled) -> datetime:
    """From when on it is tried for a day: it may have been held for longer than that before its first attempt."""
    if not isinstance(one.outcome, Postponed | Down) or one.at - one.notification.created_at < GIVE_UP:
        return one.notification.created_at
    first = sa.select(sa.func.min(attempts.c.ended_at)).where(attempts.c.notification_id == one.notification.id)
    return conn.execute(first).scalar_one()


def _error(outcome: Outcome) -> str | None:
    match outcome:
        case Delivered():
            return None
        case Refused(error=error) | Down(error=error):
            return error[:_LONGEST_ERROR]
        case _:
            return str(getattr(outcome, "error", getattr(outcome, "reason", "")))[:_LONGEST_ERROR]


def _words(outcome: Outcome) -> str:
    return (outcome.subject or "") if isinstance(outcome, Delivered) else ""


def _handed_on(conn: sa.Connection, one: Settled, present: dict[str, Status]) -> Notification | None:
    """The message by its next channel, where this one certainly didn't take it."""
    if not isinstance(one.outcome, Refused | Down) or present.get(one.notification.id) is not Status.SENDING:
        return None
    return handed_on(conn, one.notification)


def _hand_on(one: Settled, other: Notification) -> sa.Update:
    by = {"channel": other.channel, "chain": ",".join(other.chain), "address": other.address, "lease_until": None}
    waits = {"status": Status.QUEUED, "next_attempt_at": one.at, "error": _error(one.outcome)}
    table = notifications
    return sa.update(table).where(table.c.id == other.id).values(**by, **waits, attempts=table.c.attempts + 1)


def _ending(one: Settled, retry: datetime | None) -> dict[str, Any]:
    ending: dict[str, Any] = {
        "key": one.notification.id,
        "retry": retry,
        "reason": _error(one.outcome),
        "heading": None,
        "ended": None,
        "who": None,
        "named": None,
        "parts": None,
        "price": None,
    }
    if isinstance(one.outcome, Delivered):
        provider, named = _name(one.notification, one.outcome)
        parts, price = one.outcome.segments or None, one.outcome.cost or None
        ending |= {"heading": one.outcome.subject, "ended": one.at, "who": provider, "named": named}
        ending |= {"parts": parts, "price": price}
    return ending


def _name(notification: Notification, outcome: Delivered) -> tuple[str | None, str | None]:
    """By what a receipt will name it."""
    if notification.channel is ChannelName.EMAIL:
        return _OURS, notification.id
    return outcome.provider or None, outcome.message_id[:128] or None


def _settling(status: Status) -> sa.Update:
    table = notifications
    return (
        sa.update(table)
        .where(table.c.id == sa.bindparam("key"))
        .values(
            status=status,
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
        )
    )


_ENDS = (Status.SENT, Status.BOUNCED, Status.FAILED, Status.SUPPRESSED, Status.QUEUED)
_SETTLE = {status: _settling(status) for status in _ENDS}


def _carried(conn: sa.Connection, moves: Sequence[Moved], settled: Sequence[Settled]) -> list[Moved]:
    """A digest's messages share the end of the one that carried them."""
    digests = {one.notification.id: one.at for one in settled if one.notification.link == DIGEST}
    others: list[Moved] = []
    for move in moves:
        if move.id in digests and move.status is not Status.QUEUED:
            mine = sa.and_(notifications.c.digest_of == move.id, notifications.c.status == Status.QUEUED)
            sent_at = digests[move.id] if move.status is Status.SENT else None
            ended = sa.update(notifications).where(mine).values(status=move.status, sent_at=sent_at)
            others += [moved_row(row) for row in conn.execute(ended.returning(notifications))]
    return others


def early(conn: sa.Connection, settled: Sequence[Settled]) -> list[sa.Row[Any]]:
    """Applies receipts that were here before the answer was written down; the rows that they moved."""
    named: dict[str, list[str]] = defaultdict(list)
    for one in settled:
        if isinstance(one.outcome, Delivered):
            provider, message_id = _name(one.notification, one.outcome)
            if provider and message_id:
                named[provider].append(message_id)
    return [row for provider, ids in named.items() for row in take_early(conn, provider, ids)]


def give_back(conn: sa.Connection, ids: Sequence[str]) -> None:
    """Not begun, and not to be begun by this process: due at once for whoever comes next."""
    mine = sa.and_(notifications.c.id.in_(ids), notifications.c.status == Status.SENDING)
    freed = {"status": Status.QUEUED, "next_attempt_at": now(), "lease_until": None}
    conn.execute(sa.update(notifications).where(mine).values(freed))
