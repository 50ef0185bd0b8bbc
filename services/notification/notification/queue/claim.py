"""The system scope: rows of every tenant. Named and kept apart, because what a request sees is never decided here."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from chassis.ids import now
from notification.announcements import Moved, moved, moved_row
from notification.domain import DIGEST, ChannelName, Notification, Status
from notification.queue.bulk_rate import Rates, keeps_slot, slots, wait_for
from notification.queue.digests import gathered, with_whole_digests
from notification.queue.new_notification import notification_of
from notification.recipients.permission import Admitted, admit
from notification.recipients.sending_rules import Hold, Send
from notification.tables import notifications, subjects


# --- the sender's view: what is due, whoever's it is ---
def _due(
    at: datetime, in_hand: Collection[str] = (), channel: ChannelName | None = None
) -> list[sa.ColumnElement[bool]]:
    """Its time has come, or the process that had it is gone: one condition for each of the two partial indexes. No row
    has both columns, and an OR of them would be answered by a walk through all that ever was, in the order of ids."""
    also = [] if channel is None else [notifications.c.channel == channel]
    also += [notifications.c.id.not_in(in_hand)] if in_hand else []
    return [sa.and_(column <= at, *also) for column in _WHEN]


_WHEN = (notifications.c.lease_until, notifications.c.next_attempt_at)


def any_due(conn: sa.Connection, in_hand: Collection[str] = (), channel: ChannelName | None = None) -> bool:
    queries = (
        sa.select(notifications.c.id).where(due).order_by(column).limit(1)
        for due, column in zip(_due(now(), in_hand, channel), _WHEN, strict=True)
    )
    return any(conn.execute(query).first() is not None for query in queries)


def _oldest(
    conn: sa.Connection, at: datetime, in_hand: Collection[str], channel: ChannelName | None, limit: int
) -> list[sa.Row[Any]]:
    """Locked for this transaction. Two replicas: the second skips what the first is just claiming."""
    rows: list[sa.Row[Any]] = []
    for due, column in zip(_due(at, in_hand, channel), _WHEN, strict=True):
        waiting = sa.and_(due, notifications.c.status.in_((Status.QUEUED, Status.SENDING)))
        query = sa.select(notifications).where(waiting).order_by(column).limit(limit - len(rows))
        rows += conn.execute(query.with_for_update(skip_locked=True))
    return sorted(rows, key=lambda row: row.id)


Told = Callable[[sa.Connection, Sequence[Moved]], None]


def _nobody(_conn: sa.Connection, _moves: Sequence[Moved]) -> None:
    return


def claim(
    conn: sa.Connection,
    *,
    lease_until: datetime,
    limit: int,
    channel: ChannelName | None = None,
    in_hand: Collection[str] = (),
    rates: Rates = MappingProxyType({}),
    told: Told = _nobody,
) -> list[Notification]:
    """Lease the oldest due rows, each to one process only, but not what this one has `in_hand`. Those that a newer
    event has overtaken are closed; those that their recipient does not want, or not now, are closed or put off; bulk
    messages wait for their slot. `told` hears of what has ended without an attempt."""
    at = now()
    found = _oldest(conn, at, in_hand, channel, limit)
    rows = {row.id: row for row in with_whole_digests(conn, found, at)}
    ended = [*_ended_unsent(conn, at, channel), *_supersede(conn, list(rows))]
    for move in ended:
        rows.pop(move.id, None)
    mine = [replace(notification_of(row), lease_until=lease_until) for row in rows.values()]
    going: list[Notification] = []
    for was, one in zip(mine, admit(conn, mine, at), strict=True):
        ended += _put_off(conn, was, one)
        if isinstance(one.decision, Send):
            going.append(one.message)
    going = _paced(conn, gathered(conn, going), rows, rates, at)
    if going:
        ours = notifications.c.id.in_([one.id for one in going])
        leased = {"status": Status.SENDING, "lease_until": lease_until, "next_attempt_at": None}
        conn.execute(sa.update(notifications).where(ours).values(leased))
    told(conn, ended)
    return going


def _ended_unsent(conn: sa.Connection, at: datetime, channel: ChannelName | None) -> list[Moved]:
    """Rows that were closed as they were written. Whoever writes them has nobody to tell."""
    closed = notifications.c.status.in_((Status.FAILED, Status.SUPPRESSED))
    over = sa.and_(*_due(at, (), channel)[:1])
    untold = sa.update(notifications).where(closed, over).values(lease_until=None)
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


def _supersede(conn: sa.Connection, ids: Sequence[str]) -> list[Moved]:
    newer = sa.exists().where(
        subjects.c.tenant == notifications.c.tenant,
        subjects.c.topic == notifications.c.topic,
        subjects.c.subject_id == notifications.c.subject_id,
        subjects.c.version > notifications.c.version,
    )
    # Not what carries others: they are not overtaken with it.
    latest = sa.and_(notifications.c.latest_only.is_(True), notifications.c.link != DIGEST)
    closed = {"status": Status.SUPPRESSED, "error": "superseded", "next_attempt_at": None, "lease_until": None}
    overtaken = sa.update(notifications).where(notifications.c.id.in_(ids), latest, newer).values(closed)
    return [moved_row(row) for row in conn.execute(overtaken.returning(notifications))]


def take_back(conn: sa.Connection) -> None:
    """For the only process there is, as it starts: what is leased was a dead one's, and nobody needs to wait for it."""
    leased = notifications.c.lease_until > now()
    conn.execute(sa.update(notifications).where(leased).values(lease_until=now()))


def give_back(conn: sa.Connection, unsent: Sequence[Notification]) -> None:
    """Not begun, and not to be begun by this process: due at once for whoever comes next. One whose lease ran out may
    be another's by now, and is."""
    leased = sa.tuple_(notifications.c.id, notifications.c.lease_until)
    mine = leased.in_([(one.id, one.lease_until) for one in unsent])
    freed = {"status": Status.QUEUED, "next_attempt_at": now(), "lease_until": None}
    conn.execute(sa.update(notifications).where(mine, notifications.c.status == Status.SENDING).values(freed))
