"""What a bulk's worker writes, in the system scope: bulks of every tenant. A chunk's messages and the progress they are
go into one transaction, which has the bulk's row locked: a process may die on any line, and beside any other.

Bulks take turns. After a chunk a bulk is last in the line, and none is taken while a channel of its chain is booked
for some seconds: whoever comes next waits for little more than these, be the others ever so long (but for a crowd
that quiet hours have just set free). `turn_at` is a bulk's place in the line, the time of its last chunk; it has no
turn before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bulk:
    """`taken` of its recipients are through."""

    id: str
    tenant: str
    channels: tuple[ChannelName, ...]
    category: str
    template: str
    context: Mapping[str, Any]
    total: int
    taken: int
    traceparent: str


def take_chunk(conn: sa.Connection, *, at: datetime, rates: Rates, size: int = CHUNK) -> bool:
    """The next recipients of the bulk whose turn it is get their message or their refusal; one that can't be taken is
    put aside for a while. False when it is no bulk's turn."""
    if (row := _turn(conn, at, set(booked(conn, rates, at)))) is None:
        return False
    try:
        with conn.begin_nested():
            _take(conn, _bulk(row), at, rates, size)
    except DATABASE_DOWN:
        raise
    except Exception:
        log.exception("bulk.broke", bulk_id=row.id)
        conn.execute(sa.update(bulks).where(bulks.c.id == row.id).values(turn_at=at + _ASIDE))
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


def _bulk(row: sa.Row[Any]) -> _Bulk:
    return _Bulk(
        id=row.id,
        tenant=row.tenant,
        channels=_channels(row.channel, row.chain),
        category=row.category,
        template=row.template,
        context=orjson.loads(row.context),
        total=row.total,
        taken=row.taken,
        traceparent=row.traceparent,
    )


def _take(conn: sa.Connection, bulk: _Bulk, at: datetime, rates: Rates, size: int) -> None:
    end = min(bulk.taken + at_once(bulk.channels, rates, size), bulk.total)
    drafts, refused = _drafts(conn, bulk, _untaken(conn, bulk, end))
    admitted = admit(conn, list(drafts.values()), at)
    # No time of the channel for what its recipient holds back or does not want.
    going = [admission.message for admission in admitted if isinstance(admission.decision, Send)]
    messages = [admission.message for admission in admitted]
    enqueue(conn, messages, at=at, slots=slots(conn, going, rates, at))
    results = [{"at": number, "made": draft.id, "why": None} for number, draft in drafts.items()]
    results += [{"at": number, "made": None, "why": why} for number, why in refused.items()]
    if results:
        conn.execute(_RESULT, [result | {"bulk": bulk.id} for result in results])
    progress = {"taken": end, "taken_at": at if end == bulk.total else None, "turn_at": at}
    conn.execute(sa.update(bulks).where(bulks.c.id == bulk.id).values(progress))


_RESULT = (
    sa.update(bulk_recipients)
    .where(bulk_recipients.c.bulk_id == sa.bindparam("bulk"), bulk_recipients.c.number == sa.bindparam("at"))
    .values(notification_id=sa.bindparam("made"), error=sa.bindparam("why"))
)


def _untaken(conn: sa.Connection, bulk: _Bulk, end: int) -> Sequence[sa.Row[Any]]:
    table = bulk_recipients
    query = sa.select(table).where(
        table.c.bulk_id == bulk.id,
        table.c.number >= bulk.taken,
        table.c.number < end,
        table.c.error.is_(None),
    )
    return conn.execute(query.order_by(table.c.number)).all()


def _drafts(
    conn: sa.Connection, bulk: _Bulk, rows: Sequence[sa.Row[Any]]
) -> tuple[dict[int, Notification], dict[int, str]]:
    """By number: what is to be sent, and why the others get nothing."""
    known = Contacts(conn, bulk.tenant).find_all([row.recipient_id for row in rows])
    drafts: dict[int, Notification] = {}
    refused: dict[int, str] = {}
    for row in rows:
        if (contact := known.get(row.recipient_id)) is None:
            refused[row.number] = _UNKNOWN
        elif (draft := _draft(bulk, contact, orjson.loads(row.context))) is None:
            refused[row.number] = _NO_ADDRESS
        else:
            drafts[row.number] = draft
    return drafts, refused


def _draft(bulk: _Bulk, contact: Contact, own: Mapping[str, Any]) -> Notification | None:
    """By the first channel that has an address; None where none has."""
    message = new_notification(
        contact,
        bulk.channels,
        tenant=bulk.tenant,
        effect=effect_of("bulk", bulk.id, contact.id),
        owner=contact.owner,
        event_id=bulk.id,
        category=bulk.category,
        template=bulk.template,
        context={**bulk.context, **own},
        traceparent=bulk.traceparent,
        group_id=bulk.id,
    )
    return message if message.address else None


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
