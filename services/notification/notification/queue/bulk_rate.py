"""How fast bulk messages go out. Each gets a slot of its channel's time, from a row that all replicas share: when it is
written down, and again where that slot was lost, in quiet hours, by a retry, or while nobody ran."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Any, cast

import sqlalchemy as sa

from chassis.db import upsert
from notification.domain import ChannelName, Notification, Status
from notification.queue.moves import move
from notification.tables import leases, notifications

Rates = Mapping[str, float]  # messages a second, by channel; a channel that isn't here goes as fast as it can
PACED = "paced"  # the `error` of a row that waits for its slot, its `next_attempt_at`

# Of a channel's time, bulks book so much before they let others come between; far more than a poll takes.
AHEAD = timedelta(seconds=5)
_LOST = timedelta(seconds=3)  # polls may be a second late; what missed its slot by more would go out in a burst


def booked(conn: sa.Connection, rates: Rates, at: datetime) -> list[str]:
    """The channels whose next seconds are given away: no bulk's messages are to be added to them now."""
    channels = {_row_of(channel): channel for channel in rates}
    ahead = sa.and_(leases.c.name.in_(channels), leases.c.held_until >= at + AHEAD)
    return [channels[name] for name in conn.execute(sa.select(leases.c.name).where(ahead)).scalars()]


def at_once(channels: Collection[ChannelName], rates: Rates, most: int) -> int:
    """How many messages by these channels may be added together: whichever they go by, it is not booked for long."""
    slowest = min((rates[channel] for channel in channels if channel in rates), default=inf)
    return max(1, int(min(most, slowest * AHEAD.total_seconds())))


def keeps_slot(row: sa.Row[Any], at: datetime) -> bool:
    """Whether a due row of a bulk may go in the slot that it has."""
    return row.error == PACED and row.next_attempt_at is not None and row.next_attempt_at > at - _LOST


def slots(conn: sa.Connection, messages: Sequence[Notification], rates: Rates, at: datetime) -> dict[str, datetime]:
    """A slot for each whose channel has a rate, by its id, in their order."""
    by_channel: dict[ChannelName, list[str]] = defaultdict(list)
    for message in messages:
        if message.channel in rates:
            by_channel[message.channel].append(message.id)
    given: dict[str, datetime] = {}
    for channel, ids in sorted(by_channel.items()):  # every replica locks in the same order
        interval = timedelta(seconds=1 / rates[channel])
        start = _reserve(conn, _row_of(channel), at, len(ids) * interval)
        given |= {key: start + number * interval for number, key in enumerate(ids)}
    return given


def wait_for(conn: sa.Connection, given: Mapping[str, datetime]) -> None:
    """The rows of these ids are due at their slots."""
    if given:
        conn.execute(_WAIT, [{"key": key, "slot": slot} for key, slot in given.items()])


_WAIT = move(
    Status.QUEUED,
    notifications.c.id == sa.bindparam("key"),
    next_attempt_at=sa.bindparam("slot"),
    error=PACED,
)


def _row_of(channel: str) -> str:
    """The name of the row that says until when a channel is booked."""
    return f"bulk.{channel}"


def _reserve(conn: sa.Connection, name: str, at: datetime, time: timedelta) -> datetime:
    """From when on a channel is free for as long as `time`, which is then given away. Its row among the leases says so
    to every bulk, in every replica and after any restart, so that their rates never add up."""
    conn.execute(upsert(conn, leases).values(name=name, owner="", held_until=at).on_conflict_do_nothing())
    query = sa.select(leases.c.held_until).where(leases.c.name == name).with_for_update()
    start = max(at, cast("datetime", conn.execute(query).scalar_one()))
    conn.execute(sa.update(leases).where(leases.c.name == name).values(held_until=start + time))
    return start
