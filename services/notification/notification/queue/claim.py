"""What is due, whoever's it is, and who sends it: the system scope, rows of every tenant. What a request sees is never
decided here."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import sqlalchemy as sa

from chassis.ids import now
from notification.announcements import Moved, moved, moved_row
from notification.domain import DIGEST, FINAL, ChannelName, Notification, Status
from notification.queue.bulk_rate import Rates, keeps_slot, slots, wait_for
from notification.queue.digests import gathered, with_whole_digests
from notification.queue.moves import move
from notification.queue.new_notification import notification_of
from notification.recipients.permission import Admitted, admit
from notification.recipients.sending_rules import Hold, Send
from notification.tables import notifications, subjects

Announce = Callable[[sa.Connection, Sequence[Moved]], None]
Row = sa.Row[Any]

# Its time has come, or the process that had it is gone. A statement for each of the two partial indexes: no row has
# both columns, and an OR of them would be answered by a walk through all that ever was, in the order of ids.
_WHEN = (notifications.c.lease_until, notifications.c.next_attempt_at)


def _due(column: sa.Column[datetime], channel: Any) -> sa.Select[Any]:
    in_hand: sa.BindParameter[Any] = sa.bindparam("in_hand", expanding=True)
    c = notifications.c
    waiting = sa.and_(c.channel == channel, column <= sa.bindparam("at"), c.id.not_in(in_hand))
    return sa.select(notifications).where(waiting).order_by(column)


# Built once: building a statement costs several times what running it does.
_OLDEST = [
    _due(column, sa.bindparam("by")).limit(sa.bindparam("most")).with_for_update(skip_locked=True) for column in _WHEN
]
_FIRST = [
    _due(column, channel).with_only_columns(notifications.c.channel).limit(1).subquery()
    for channel in ChannelName
    for column in _WHEN
]
_DUE_CHANNELS = sa.union(*map(sa.select, _FIRST))


def due_channels(conn: sa.Connection, in_hand: Collection[str] = ()) -> set[ChannelName]:
    """Those by which something is to be sent."""
    found = conn.execute(_DUE_CHANNELS, {"at": now(), "in_hand": list(in_hand)})
    return {ChannelName(channel) for channel in found.scalars()}


def _announce_nothing(_conn: sa.Connection, _moves: Sequence[Moved]) -> None:
    return


class Claimed(NamedTuple):
    """`more` may be due of the channel."""

    messages: list[Notification]
    more: bool


def claim(
    conn: sa.Connection,
    *,
    channel: ChannelName,
    lease_until: datetime,
    limit: int,
    in_hand: Collection[str] = (),
    rates: Rates = MappingProxyType({}),
    announce: Announce = _announce_nothing,
) -> Claimed:
    """Lease the oldest due rows, each to one process only, but not what this one has `in_hand`. Those that a newer
    event has overtaken are closed; those that their recipient does not want, or not now, are closed or put off; bulk
    messages wait for their slot. What ended without an attempt is announced."""
    at = now()
    found = _found(conn, at, channel, in_hand, limit)
    more = len(found) >= limit
    ended = _closed_when_written(conn, found)
    found = [row for row in found if Status(row.status) not in FINAL]
    rows = {row.id: row for row in with_whole_digests(conn, found, at)}
    ended += _supersede(conn, rows)
    for overtaken in ended:
        rows.pop(overtaken.id, None)
    due = [replace(notification_of(row), lease_until=lease_until) for row in rows.values()]
    going: list[Notification] = []
    for message, admitted in zip(due, admit(conn, due, at), strict=True):
        ended += _put_off(conn, message, admitted)
        if isinstance(admitted.decision, Send):
            going.append(_as_digest(admitted))
    going = _paced(conn, gathered(conn, going), rows, rates, at)
    if going:
        conn.execute(_LEASE, {"ids": [message.id for message in going], "until": lease_until})
    announce(conn, ended)
    return Claimed(going, more)


_LEASE = move(
    Status.SENDING,
    notifications.c.id.in_(sa.bindparam("ids", expanding=True)),
    lease_until=sa.bindparam("until"),
)


def _as_digest(admitted: Admitted) -> Notification:
    """One whose digest's time has come already, before anybody could hold it, goes out in that one too."""
    message = admitted.message
    return replace(message, digest_of="") if admitted.digest and message.link != DIGEST else message


def _found(conn: sa.Connection, at: datetime, channel: ChannelName, in_hand: Collection[str], limit: int) -> list[Row]:
    """Locked for this transaction. Two replicas: the second skips what the first is just claiming."""
    rows: list[Row] = []
    for oldest in _OLDEST:
        asked = {"by": channel, "at": at, "in_hand": list(in_hand), "most": limit - len(rows)}
        rows += conn.execute(oldest, asked)
    return sorted(rows, key=lambda row: row.id)


def _closed_when_written(conn: sa.Connection, found: Sequence[Row]) -> list[Moved]:
    """Whoever writes them has nobody to tell."""
    closed = [row for row in found if Status(row.status) in FINAL]
    if closed:
        ids = notifications.c.id.in_([row.id for row in closed])
        conn.execute(sa.update(notifications).where(ids).values(lease_until=None))
    return [moved_row(row) for row in closed]


def _paced(
    conn: sa.Connection, going: Sequence[Notification], rows: Mapping[str, Row], rates: Rates, at: datetime
) -> list[Notification]:
    """Those that may go now. A bulk's message that has no slot gets one, and waits for it."""
    lost = [
        message
        for message in going
        if message.of_bulk and not (keeps_slot(rows[message.id], at) and rows[message.id].channel == message.channel)
    ]
    later = {key: slot for key, slot in slots(conn, lost, rates, at).items() if slot > at}
    wait_for(conn, later)
    return [message for message in going if message.id not in later]


def _put_off(conn: sa.Connection, message: Notification, admitted: Admitted) -> list[Moved]:
    """What admission says of a due row, where it isn't "as it is, at once"; what has ended by it."""
    row, by = notifications.c.id == message.id, admitted.message
    if by.channel is not message.channel:
        next_channel = {"channel": by.channel, "chain": ",".join(by.chain), "address": by.address}
        conn.execute(sa.update(notifications).where(row).values(next_channel))
    match admitted.decision:
        case Send():
            return []
        case Hold(until=until, reason=reason):
            # One that carries others already waits alone: carried itself, it would take its own nowhere.
            digest = "" if admitted.digest and message.link != DIGEST else None
            conn.execute(move(Status.QUEUED, row, next_attempt_at=until, error=reason, digest_of=digest))
            return []
        case refused:
            conn.execute(move(Status.SUPPRESSED, row, error=refused.reason))
            carried = move(Status.SUPPRESSED, notifications.c.digest_of == message.id, error=refused.reason)
            carried_rows = conn.execute(carried.returning(notifications))
            return [moved(by, Status.SUPPRESSED), *map(moved_row, carried_rows)]


def _supersede(conn: sa.Connection, rows: Mapping[str, Row]) -> list[Moved]:
    # Not what carries others: they are not overtaken with it.
    ids = [row.id for row in rows.values() if row.latest_only and row.link != DIGEST]
    if not ids:
        return []
    newer = sa.exists().where(
        subjects.c.tenant == notifications.c.tenant,
        subjects.c.topic == notifications.c.topic,
        subjects.c.subject_id == notifications.c.subject_id,
        subjects.c.version > notifications.c.version,
    )
    overtaken = move(Status.SUPPRESSED, sa.and_(notifications.c.id.in_(ids), newer), error="superseded")
    return [moved_row(row) for row in conn.execute(overtaken.returning(notifications))]


def posting(conn: sa.Connection, notification: Notification, provider: str) -> None:
    """`provider` is about to be asked to send it: whatever dies, it may have it from now on."""
    row = sa.and_(notifications.c.tenant == notification.tenant, notifications.c.id == notification.id)
    conn.execute(sa.update(notifications).where(row).values(provider=provider))


def take_back(conn: sa.Connection) -> None:
    """For the only process there is, as it starts: what is leased was a dead one's, and nobody needs to wait for it."""
    leased = notifications.c.lease_until > now()
    conn.execute(sa.update(notifications).where(leased).values(lease_until=now()))


def give_back(conn: sa.Connection, unsent: Sequence[Notification]) -> None:
    """Not begun, and not to be begun by this process: due at once for whoever comes next. One whose lease ran out may
    be another's by now, and is."""
    leased = sa.tuple_(notifications.c.id, notifications.c.lease_until)
    still_leased = leased.in_([(message.id, message.lease_until) for message in unsent])
    sending = notifications.c.status == Status.SENDING
    conn.execute(move(Status.QUEUED, sa.and_(still_leased, sending), next_attempt_at=now()))
