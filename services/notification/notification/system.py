"""The system scope: rows of every tenant. Named and kept apart, because what a request sees is never decided here."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from types import MappingProxyType
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
from notification.pace import Rates, keeps_slot, slots, wait_for
from notification.policy import Hold, Send
from notification.receipts import one_at_a_time, take_early
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


def _due(at: datetime, in_hand: Collection[str] = ()) -> sa.ColumnElement[bool]:
    """Its time has come, or the process that had it is gone. Each column is null in every other status, but that a row
    which was closed as it was written has its `lease_until`, until it is told of."""
    due = sa.or_(notifications.c.next_attempt_at <= at, notifications.c.lease_until <= at)
    return sa.and_(due, notifications.c.id.not_in(in_hand)) if in_hand else due


def any_due(conn: sa.Connection, in_hand: Collection[str] = ()) -> bool:
    return conn.execute(sa.select(notifications.c.id).where(_due(now(), in_hand)).limit(1)).first() is not None


Told = Callable[[sa.Connection, Sequence[Moved]], None]


def _nobody(_conn: sa.Connection, _moves: Sequence[Moved]) -> None:
    return


def claim(
    conn: sa.Connection,
    *,
    lease_until: datetime,
    limit: int,
    in_hand: Collection[str] = (),
    rates: Rates = MappingProxyType({}),
    told: Told = _nobody,
) -> list[Notification]:
    """Lease the oldest due rows, each to one process only, but not what this one has `in_hand`. Those that a newer
    event has overtaken are closed; those that their recipient does not want, or not now, are closed or put off; bulk
    messages wait for their slot. `told` hears of what has ended without an attempt."""
    at = now()
    waiting = sa.and_(_due(at, in_hand), notifications.c.status.in_((Status.QUEUED, Status.SENDING)))
    ended = [*_ended_unsent(conn, at), *_supersede(conn, waiting)]
    due = sa.select(notifications).where(waiting).order_by(notifications.c.id).limit(limit)
    # Two replicas: the second skips what the first is just claiming. SQLite has one writer anyway.
    rows = {row.id: row for row in conn.execute(due.with_for_update(skip_locked=True))}
    mine = [replace(notification_of(row), lease_until=lease_until) for row in rows.values()]
    going: list[Notification] = []
    for was, one in zip(mine, admit(conn, mine, at), strict=True):
        ended += _put_off(conn, was, one)
        if isinstance(one.decision, Send):
            going.append(one.message)
    going = _paced(conn, _gathered(conn, going), rows, rates, at)
    if going:
        ours = notifications.c.id.in_([one.id for one in going])
        leased = {"status": Status.SENDING, "lease_until": lease_until, "next_attempt_at": None}
        conn.execute(sa.update(notifications).where(ours).values(leased))
    told(conn, ended)
    return going


def _ended_unsent(conn: sa.Connection, at: datetime) -> list[Moved]:
    """Rows that were closed as they were written. Whoever writes them has nobody to tell."""
    closed = notifications.c.status.in_((Status.FAILED, Status.SUPPRESSED))
    untold = sa.update(notifications).where(closed, notifications.c.lease_until <= at).values(lease_until=None)
    return [moved_row(row) for row in conn.execute(untold.returning(notifications))]


def _paced(
    conn: sa.Connection, going: Sequence[Notification], rows: Mapping[str, sa.Row[Any]], rates: Rates, at: datetime
) -> list[Notification]:
    """Those that may go now. A bulk's message that has no slot gets one, and waits for it."""
    lost = [
        one
        for one in going
        if one.of_bulk and not (keeps_slot(rows[one.id], at) and rows[one.id].channel == one.channel)
    ]
    later = {key: slot for key, slot in slots(conn, lost, rates, at).items() if slot > at}
    wait_for(conn, later)
    return [one for one in going if one.id not in later]


def _put_off(conn: sa.Connection, was: Notification, one: Admitted) -> list[Moved]:
    """What admission says of a due row, where it isn't "as it is, at once"; what has ended by it."""
    values: dict[str, Any] = {}
    ended: list[Moved] = []
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
            closed = {"status": Status.SUPPRESSED, "error": refused.reason}
            values |= closed | {"lease_until": None, "next_attempt_at": None}
            carried = sa.and_(notifications.c.digest_of == was.id, notifications.c.status == Status.QUEUED)
            others = sa.update(notifications).where(carried).values(closed).returning(notifications)
            ended = [moved(one.message, Status.SUPPRESSED), *map(moved_row, conn.execute(others))]
    if values:
        conn.execute(sa.update(notifications).where(notifications.c.id == was.id).values(values))
    return ended


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
            waiting = {"status": Status.QUEUED, "lease_until": None, "next_attempt_at": None, "digest_of": carrier.id}
            conn.execute(sa.update(notifications).where(notifications.c.id.in_(ids)).values(waiting))
    return [carriers.get(one.id, one) for one in going if one.id not in carried]


def carried_by(conn: sa.Connection, carrier_id: str) -> list[Notification]:
    """The messages of a digest beside the one that carries them, oldest first."""
    mine = sa.select(notifications).where(notifications.c.digest_of == carrier_id).order_by(notifications.c.id)
    return [notification_of(row) for row in conn.execute(mine)]


def _supersede(conn: sa.Connection, waiting: sa.ColumnElement[bool]) -> list[Moved]:
    newer = sa.exists().where(
        subjects.c.tenant == notifications.c.tenant,
        subjects.c.topic == notifications.c.topic,
        subjects.c.subject_id == notifications.c.subject_id,
        subjects.c.version > notifications.c.version,
    )
    # Not what carries others: they are not overtaken with it.
    latest = sa.and_(notifications.c.latest_only.is_(True), notifications.c.link != DIGEST)
    closed = {"status": Status.SUPPRESSED, "error": "superseded", "next_attempt_at": None, "lease_until": None}
    overtaken = sa.update(notifications).where(waiting, latest, newer).values(closed)
    return [moved_row(row) for row in conn.execute(overtaken.returning(notifications))]


_FIELDS = [one.name for one in fields(Notification)]


def notification_of(row: sa.Row[Any]) -> Notification:
    values: dict[str, Any] = {name: getattr(row, name) for name in _FIELDS}
    chain = tuple(ChannelName(name) for name in row.chain.split(",") if name)
    values |= {"channel": ChannelName(row.channel), "chain": chain, "context": orjson.loads(row.context)}
    values["provider"] = row.provider or ""
    return Notification(**values)


# --- how attempts ended ---


def settle(conn: sa.Connection, settled: Sequence[Settled]) -> list[Moved]:
    """Write down how attempts ended, many at once; what has moved, for the announcements.

    The attempt of a process whose lease ran out may end after another one's: only what may still move does.
    """
    for provider, ids in sorted(_named(settled).items()):
        one_at_a_time(conn, provider, ids)
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
    waits = {"status": Status.QUEUED, "next_attempt_at": one.at, "error": _error(one.outcome), "provider": None}
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
    elif isinstance(one.outcome, Postponed):
        ending["who"] = one.outcome.provider or None  # may have it
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


def give_back(conn: sa.Connection, ids: Sequence[str]) -> None:
    """Not begun, and not to be begun by this process: due at once for whoever comes next."""
    mine = sa.and_(notifications.c.id.in_(ids), notifications.c.status == Status.SENDING)
    freed = {"status": Status.QUEUED, "next_attempt_at": now(), "lease_until": None}
    conn.execute(sa.update(notifications).where(mine).values(freed))
