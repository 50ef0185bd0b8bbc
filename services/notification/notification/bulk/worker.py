"""What a bulk's worker writes, in the system scope: bulks of every tenant. A chunk's messages and the progress they are
go into one transaction, which has the bulk's row locked: a process may die on any line, and beside any other.

Bulks take turns. After a chunk a bulk is last in the line, and none is taken while a channel of its chain is booked
for some seconds: whoever comes next waits for little more than these, be the others ever so long (but for a crowd
that quiet hours have just set free). `turn_at` is a bulk's place in the line, the time of its last chunk; it has no
turn before."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa
import structlog

from chassis.db import Database
from chassis.ids import now
from chassis.problems import DATABASE_DOWN
from chassis.wakeups import Wakeup
from notification.domain import ChannelName, Notification
from notification.queue.bulk_rate import AHEAD, Rates, at_once, booked, slots
from notification.queue.enqueue import enqueue
from notification.queue.new_notification import effect_of, new_notification
from notification.recipients.contacts import Contact, Contacts
from notification.recipients.permission import admit
from notification.recipients.sending_rules import Send
from notification.tables import bulk_recipients, bulks

log = structlog.get_logger()

CHUNK = 200

_ASIDE = timedelta(seconds=10)  # for one that broke
_UNKNOWN, _NO_ADDRESS = "unknown recipient", "no address"


def take_chunk(conn: sa.Connection, *, at: datetime, rates: Rates, size: int = CHUNK) -> bool:
    """The next recipients of the bulk whose turn it is get their message or their refusal; one that can't be taken is
    put aside for a while. False when it is no bulk's turn."""
    if (bulk := _turn(conn, at, set(booked(conn, rates, at)))) is None:
        return False
    try:
        with conn.begin_nested():
            _take(conn, bulk, at, rates, size)
    except DATABASE_DOWN:
        raise
    except Exception:
        log.exception("bulk.broke", bulk_id=bulk.id)
        conn.execute(sa.update(bulks).where(bulks.c.id == bulk.id).values(turn_at=at + _ASIDE))
    return True


def _turn(conn: sa.Connection, at: datetime, full: set[str]) -> sa.Row[Any] | None:
    """Of those that are not through, and that no other worker is just taking, the one whose last chunk is the longest
    ago; not by channels that are `full`. One that has to wait long for all of its channels keeps them for itself."""
    c = bulks.c
    waiting = sa.and_(c.taken_at.is_(None), c.turn_at <= at)
    line = sa.select(c.id, c.channel, c.chain, c.turn_at).where(waiting).order_by(c.turn_at, c.id)
    for bulk in conn.execute(line).all():
        channels = set(_channels(bulk.channel, bulk.chain))
        if channels & full:
            if at - bulk.turn_at > AHEAD:
                full |= channels
            continue
        locked = sa.select(bulks).where(waiting, c.id == bulk.id).with_for_update(skip_locked=True)
        if (row := conn.execute(locked).one_or_none()) is not None:
            return row
    return None


def _channels(first: str, chain: str) -> tuple[ChannelName, ...]:
    """By which its messages may go, in the order in which they are tried."""
    return tuple(ChannelName(name) for name in (first, *chain.split(",")) if name)


def _take(conn: sa.Connection, bulk: sa.Row[Any], at: datetime, rates: Rates, size: int) -> None:
    channels, common = _channels(bulk.channel, bulk.chain), orjson.loads(bulk.context)
    end = min(bulk.taken + at_once(channels, rates, size), bulk.total)
    rows = _untaken(conn, bulk, end)
    known = Contacts(conn, bulk.tenant).find_all([row.recipient_id for row in rows])
    messages: list[Notification] = []
    results: list[dict[str, Any]] = []
    for row in rows:
        message = _message(bulk, channels, known.get(row.recipient_id), {**common, **orjson.loads(row.context)})
        if isinstance(message, Notification):
            messages.append(message)
            results.append({"bulk": bulk.id, "at": row.number, "made": message.id, "why": None})
        else:
            results.append({"bulk": bulk.id, "at": row.number, "made": None, "why": message})
    admitted = admit(conn, messages, at)
    # No time of the channel for what its recipient holds back or does not want.
    going = [admission.message for admission in admitted if isinstance(admission.decision, Send)]
    enqueue(conn, [admission.message for admission in admitted], at=at, slots=slots(conn, going, rates, at))
    if results:
        conn.execute(_RESULT, results)
    progress = {"taken": end, "taken_at": at if end == bulk.total else None, "turn_at": at}
    conn.execute(sa.update(bulks).where(bulks.c.id == bulk.id).values(progress))


_RESULT = (
    sa.update(bulk_recipients)
    .where(bulk_recipients.c.bulk_id == sa.bindparam("bulk"), bulk_recipients.c.number == sa.bindparam("at"))
    .values(notification_id=sa.bindparam("made"), error=sa.bindparam("why"))
)


def _untaken(conn: sa.Connection, bulk: sa.Row[Any], end: int) -> Sequence[sa.Row[Any]]:
    table = bulk_recipients
    numbers = (table.c.number >= bulk.taken, table.c.number < end)
    query = sa.select(table).where(table.c.bulk_id == bulk.id, *numbers, table.c.error.is_(None))
    return conn.execute(query.order_by(table.c.number)).all()


def _message(
    bulk: sa.Row[Any], channels: Sequence[ChannelName], contact: Contact | None, context: Mapping[str, Any]
) -> Notification | str:
    """By the first channel that has an address; or why there is none."""
    if contact is None:
        return _UNKNOWN
    message = new_notification(
        contact,
        channels,
        tenant=bulk.tenant,
        effect=effect_of("bulk", bulk.id, contact.id),
        owner=contact.owner,
        event_id=bulk.id,
        category=bulk.category,
        template=bulk.template,
        context=context,
        traceparent=bulk.traceparent,
        group_id=bulk.id,
    )
    return message if message.address else _NO_ADDRESS


_POLL = 1.0  # also how late a channel is found to have room again: well below what it is booked ahead


# --- the worker ---
class Bulks:
    """Any number of replicas may run one."""

    def __init__(self, *, db: Database, rates: Rates, chunk: int = CHUNK) -> None:
        self._db = db
        self._chunk = chunk
        self._wakeup = Wakeup(poll=_POLL)
        self.rates = rates

    def wake(self) -> None:
        """There is a new one, committed."""
        self._wakeup.set()

    async def run(self) -> None:
        """Until cancelled, at any moment."""
        while True:
            self._wakeup.clear()
            try:
                while await self._db.write(partial(take_chunk, at=now(), rates=self.rates, size=self._chunk)):
                    pass
            except DATABASE_DOWN as down:
                log.warning("bulk.database_unavailable", error=type(down).__name__)
            except Exception:
                log.exception("bulk.worker_failed")
            await self._wakeup.sleep()
