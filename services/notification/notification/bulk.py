"""Bulk: one template to thousands. The recipients are rows from the start; a worker of any replica takes them through
in chunks. A chunk's messages and the progress they are go into one transaction: a process may die on any line."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from math import ceil
from typing import Any, cast

import orjson
import sqlalchemy as sa
import structlog

from chassis.db import Database, upsert
from chassis.ids import new_id, now
from chassis.problems import DATABASE_DOWN
from notification.domain import ChannelName, Notification, OtherTenant, UnknownBulk
from notification.drafts import first_reachable
from notification.locales import DEFAULT
from notification.routing import Person
from notification.store import Keys, Page, Rows, effect_of, enqueue, paged
from notification.system import tenant_of
from notification.tables import attempts, bulk_recipients, bulks, contacts, leases, notifications

log = structlog.get_logger()

CHUNK = 200
LEASE = timedelta(seconds=10)  # a chunk takes milliseconds, and each renews it
_POLL = 1.0

Rates = Mapping[str, float]  # messages a second, by channel; a channel that isn't here goes as fast as it can

_TWICE, _UNKNOWN, _NO_ADDRESS = "listed twice", "unknown recipient", "no address"


class Standing(StrEnum):
    """Where a recipient stands: not taken yet, else as its message does; one that was refused has failed."""

    PENDING = "pending"
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    FAILED = "failed"
    SUPPRESSED = "suppressed"


_AHEAD = (Standing.PENDING, Standing.QUEUED, Standing.SENDING)


# --- what requests do and see ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`recipients` are ids, each with what is its own in the context."""

    channel: ChannelName
    chain: tuple[ChannelName, ...]
    category: str
    template: str
    context: Mapping[str, Any]
    recipients: Sequence[tuple[str, Mapping[str, Any]]]
    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An Idempotency-Key of one caller, and the body it came with, both hashed."""

    hash: str
    body_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`completed_at` once nothing is ahead any more."""

    bulk: sa.Row[Any]
    counts: Mapping[Standing, int]
    completed_at: datetime | None

    def eta_seconds(self, rates: Rates, at: datetime) -> int | None:
        """By the channel's rate, else at the pace so far; None when it is over or nothing tells the pace."""
        ahead = sum(self.counts[standing] for standing in _AHEAD)
        done = self.bulk.total - ahead
        pace = rates.get(self.bulk.channel) or done / max((at - self.bulk.created_at).total_seconds(), 0.001)
        return ceil(ahead / pace) if ahead and pace else None


class BulkStore:
    """A tenant's bulks."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def create(self, wanted: Wanted, key: Key | None) -> tuple[str, bool]:
        """The bulk's id, and whether it was made now: a `key` stands for one. Raises IdempotencyMismatch."""
        bulk_id = new_id()
        if key is not None:
            known = Keys(self._conn, self._tenant).take(key.hash, key.body_hash, bulk_id)
            if known is not True:
                return known, False
        row = {
            "id": bulk_id,
            "tenant": self._tenant,
            "author": wanted.author,
            "channel": wanted.channel,
            "chain": ",".join(wanted.chain),
            "category": wanted.category,
            "template": wanted.template,
            "context": orjson.dumps(wanted.context).decode(),
            "total": len(wanted.recipients),
            "taken": 0,
            "created_at": now(),
        }
        self._conn.execute(sa.insert(bulks), row)
        self._conn.execute(sa.insert(bulk_recipients), _recipient_rows(bulk_id, wanted.recipients))
        return bulk_id, True

    def page(self, page: Page) -> Rows:
        """Rows of `bulks`, newest first, and the cursor of the next page if there is one."""
        return paged(self._conn, bulks, sa.select(bulks).where(bulks.c.tenant == self._tenant), page)

    def progress(self, bulk_id: str) -> Progress:
        """Raises UnknownBulk or OtherTenant."""
        bulk = self._get(bulk_id)
        standings = _standings(bulk_id)
        query = sa.select(standings.c.standing, sa.func.count()).group_by(standings.c.standing)
        counted = {Standing(standing): count for standing, count in self._conn.execute(query)}
        counts = {standing: counted.get(standing, 0) for standing in Standing}
        over = not any(counts[standing] for standing in _AHEAD)
        return Progress(bulk=bulk, counts=counts, completed_at=self._completed_at(bulk) if over else None)

    def recipients(
        self, bulk_id: str, *, standing: Standing | None, after: int | None, limit: int
    ) -> list[sa.Row[Any]]:
        """In the order of the list, those after number `after`: number, recipient_id, notification_id, standing, error.
        Raises UnknownBulk or OtherTenant."""
        self._get(bulk_id)
        table = _standings(bulk_id)
        query = sa.select(table).order_by(table.c.number).limit(limit)
        if standing is not None:
            query = query.where(table.c.standing == standing)
        if after is not None:
            query = query.where(table.c.number > after)
        return list(self._conn.execute(query))

    def _get(self, bulk_id: str) -> sa.Row[Any]:
        query = sa.select(bulks).where(bulks.c.tenant == self._tenant, bulks.c.id == bulk_id)
        if (row := self._conn.execute(query).one_or_none()) is not None:
            return row
        if tenant_of(self._conn, bulks, bulk_id) is None:
            raise UnknownBulk(bulk_id)
        raise OtherTenant("Bulk")

    def _completed_at(self, bulk: sa.Row[Any]) -> datetime:
        """When the last attempt of its messages ended; of one without any, when its last recipient was taken."""
        of_it = sa.and_(notifications.c.tenant == self._tenant, notifications.c.group_id == bulk.id)
        joined = sa.join(attempts, notifications, attempts.c.notification_id == notifications.c.id)
        query = sa.select(sa.func.max(attempts.c.ended_at, type_=attempts.c.ended_at.type))
        last = self._conn.execute(query.select_from(joined).where(of_it)).scalar_one()
        return max(last, bulk.taken_at) if last else bulk.taken_at


def _recipient_rows(bulk_id: str, recipients: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One that is listed twice gets one message, the first."""
    first: dict[str, int] = {}
    return [
        {
            "bulk_id": bulk_id,
            "number": number,
            "recipient_id": recipient_id,
            "context": orjson.dumps(context).decode(),
            "error": None if first.setdefault(recipient_id, number) == number else _TWICE,
        }
        for number, (recipient_id, context) in enumerate(recipients)
    ]


def _standings(bulk_id: str) -> sa.Subquery:
    mine, theirs = bulk_recipients, notifications
    refused = sa.case((mine.c.error.is_not(None), Standing.FAILED), else_=Standing.PENDING)
    return (
        sa.select(
            mine.c.number,
            mine.c.recipient_id,
            mine.c.notification_id,
            sa.func.coalesce(theirs.c.status, refused).label("standing"),
            sa.func.coalesce(mine.c.error, theirs.c.error).label("error"),
        )
        .select_from(mine.outerjoin(theirs, theirs.c.id == mine.c.notification_id))
        .where(mine.c.bulk_id == bulk_id)
        .subquery()
    )


# --- the worker, in the system scope: bulks of every tenant ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A bulk in this process's hands until `lease_until`; `taken` of its recipients are through."""

    id: str
    tenant: str
    channels: tuple[ChannelName, ...]
    category: str
    template: str
    context: Mapping[str, Any]
    total: int
    taken: int
    lease_until: datetime


class Bulks:
    """Any number of replicas may run one."""

    def __init__(self, *, db: Database, rates: Rates, lease: timedelta = LEASE) -> None:
        self._db = db
        self._lease = lease
        self._woken = asyncio.Event()
        self.rates = rates

    def wake(self) -> None:
        """There is a new one, committed."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled, at any moment."""
        while True:
            self._woken.clear()
            try:
                while (held := await self._next()) is not None:
                    while held is not None:
                        chunk = partial(take_chunk, held=held, lease=self._lease, rates=self.rates)
                        held = await self._db.write(chunk)
            except DATABASE_DOWN as down:
                log.warning("bulk.database_unavailable", error=type(down).__name__)
            except Exception:
                log.exception("bulk.broke")  # its lease keeps it out of the others' way for a while
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await self._woken.wait()

    async def _next(self) -> Leased | None:
        if not await self._db.read(lambda conn: conn.execute(_free(now())).first()):
            return None
        return await self._db.write(partial(claim, lease=self._lease))


def _free(at: datetime) -> sa.Select[Any]:
    """The oldest that is not through and in nobody's hands."""
    idle = sa.or_(bulks.c.lease_until.is_(None), bulks.c.lease_until <= at)
    return sa.select(bulks.c.id).where(bulks.c.taken_at.is_(None), idle).order_by(bulks.c.id).limit(1)


def claim(conn: sa.Connection, *, lease: timedelta) -> Leased | None:
    at = now()
    free = _free(at).with_for_update(skip_locked=True).scalar_subquery()
    claimed = sa.update(bulks).where(bulks.c.id == free).values(lease_until=at + lease).returning(bulks)
    row = conn.execute(claimed).one_or_none()
    return None if row is None else _leased(row)


def _leased(row: sa.Row[Any]) -> Leased:
    return Leased(
        id=row.id,
        tenant=row.tenant,
        channels=tuple(ChannelName(name) for name in (row.channel, *row.chain.split(",")) if name),
        category=row.category,
        template=row.template,
        context=orjson.loads(row.context),
        total=row.total,
        taken=row.taken,
        lease_until=row.lease_until,
    )


def take_chunk(conn: sa.Connection, held: Leased, *, lease: timedelta, rates: Rates) -> Leased | None:
    """The next recipients get their message or their refusal. None when they were the last, or when the lease ran out
    and somebody else has it."""
    at = now()
    after = replace(held, taken=min(held.taken + CHUNK, held.total), lease_until=at + lease)
    last = after.taken == after.total
    ours = sa.and_(bulks.c.id == held.id, bulks.c.taken == held.taken, bulks.c.lease_until == held.lease_until)
    progress = {
        "taken": after.taken,
        "taken_at": at if last else None,
        "lease_until": None if last else after.lease_until,
    }
    if conn.execute(sa.update(bulks).where(ours).values(progress)).rowcount == 0:
        return None
    drafts, refused = _drafts(conn, held, _untaken(conn, held, after), at)
    enqueue(conn, _paced(conn, held, list(drafts.values()), rates, at), at=at)
    results = [{"at": number, "made": draft.id, "why": None} for number, draft in drafts.items()]
    results += [{"at": number, "made": None, "why": why} for number, why in refused.items()]
    if results:
        conn.execute(_RESULT, [result | {"bulk": held.id} for result in results])
    return None if last else after


_RESULT = (
    sa.update(bulk_recipients)
    .where(bulk_recipients.c.bulk_id == sa.bindparam("bulk"), bulk_recipients.c.number == sa.bindparam("at"))
    .values(notification_id=sa.bindparam("made"), error=sa.bindparam("why"))
)


def _untaken(conn: sa.Connection, held: Leased, after: Leased) -> Sequence[sa.Row[Any]]:
    table = bulk_recipients
    query = sa.select(table).where(
        table.c.bulk_id == held.id,
        table.c.number >= held.taken,
        table.c.number < after.taken,
        table.c.error.is_(None),
    )
    return conn.execute(query.order_by(table.c.number)).all()


def _drafts(
    conn: sa.Connection, bulk: Leased, rows: Sequence[sa.Row[Any]], at: datetime
) -> tuple[dict[int, Notification], dict[int, str]]:
    """By number: what is to be sent, and why the others get nothing."""
    query = sa.select(contacts).where(
        contacts.c.tenant == bulk.tenant, contacts.c.id.in_([row.recipient_id for row in rows])
    )
    known = {contact.id: contact for contact in conn.execute(query)}
    drafts: dict[int, Notification] = {}
    refused: dict[int, str] = {}
    for row in rows:
        if (contact := known.get(row.recipient_id)) is None:
            refused[row.number] = _UNKNOWN
        elif (draft := _draft(bulk, contact, orjson.loads(row.context), at)) is None:
            refused[row.number] = _NO_ADDRESS
        else:
            drafts[row.number] = draft
    return drafts, refused


def _draft(bulk: Leased, contact: sa.Row[Any], own: Mapping[str, Any], at: datetime) -> Notification | None:
    """By the first channel that has an address; None where none has."""
    person = Person(id=contact.id, email=contact.email, phone=contact.phone)
    channel, address, chain = first_reachable(person, bulk.channels)
    if not address:
        return None
    return Notification(
        id=new_id(),
        tenant=bulk.tenant,
        effect=effect_of("bulk", bulk.id, contact.id),
        owner=contact.owner or contact.id,
        event_id=bulk.id,
        recipient_id=contact.id,
        channel=channel,
        chain=chain,
        address=address,
        category=bulk.category,
        template=bulk.template,
        locale=contact.locale or DEFAULT,
        context={**bulk.context, **own},
        traceparent="",
        created_at=at,
        group_id=bulk.id,
    )


def _paced(
    conn: sa.Connection, bulk: Leased, drafts: Sequence[Notification], rates: Rates, at: datetime
) -> list[Notification]:
    by_channel: dict[ChannelName, list[Notification]] = defaultdict(list)
    for draft in drafts:
        by_channel[draft.channel].append(draft)
    paced: list[Notification] = []
    for channel, theirs in sorted(by_channel.items()):  # every replica locks in the same order
        if rate := rates.get(channel):
            each = timedelta(seconds=1 / rate)
            start = _hold(conn, f"bulk.{channel}", bulk.id, at, len(theirs) * each)
            paced += [replace(draft, not_before=start + number * each) for number, draft in enumerate(theirs)]
        else:
            paced += theirs
    return paced


def _hold(conn: sa.Connection, name: str, bulk_id: str, at: datetime, time: timedelta) -> datetime:
    """From when on a channel is free for as long as `time`, which is then given away. Its row among the leases says so
    to every bulk, in every replica and after any restart, so that their rates never add up."""
    free = upsert(conn, leases).values(name=name, owner=bulk_id, held_until=at).on_conflict_do_nothing()
    conn.execute(free)
    query = sa.select(leases.c.held_until).where(leases.c.name == name).with_for_update()
    start = max(at, cast("datetime", conn.execute(query).scalar_one()))
    held = sa.update(leases).where(leases.c.name == name).values(owner=bulk_id, held_until=start + time)
    conn.execute(held)
    return start
