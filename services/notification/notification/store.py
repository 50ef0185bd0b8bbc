"""Persistence. Units of work over a connection for the system scope; `Store` reads and replays for one tenant."""

import operator
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, cast

import orjson
import sqlalchemy as sa

from chassis.db import Database, upsert, upsert_in
from chassis.events import first_time
from chassis.ids import new_id, now
from notification.domain import (
    LATEST_ONLY,
    ChannelName,
    Delivered,
    Notification,
    Outcome,
    Status,
    before,
    retry_at,
    status_after,
)
from notification.tables import dead_letters, event_processing, notifications, orders

_INSERT = sa.insert(notifications)
_CONSUMER = "notification.orders"
_LONGEST_ERROR = 255
NO_ID = "sha256:"  # begins the `event_id` of a dead letter without an id of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What an event says of its order."""

    tenant: str
    event_id: str
    order_id: str
    version: int
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One attempt, ended at `at`."""

    notification: Notification
    outcome: Outcome
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that nobody could process. `event_id` is the body's hash where it has no id, `topic` may be empty."""

    tenant: str
    topic: str
    event_id: str
    type: str
    body: str


# --- events in ---


def take(conn: sa.Connection, news: News, messages: Sequence[Notification]) -> bool:
    """The whole effect of one event, once: true when its messages are to be sent.

    Those of an event that comes after a newer one of its order are kept as `superseded`.
    """
    if not first_time(conn, event_processing, tenant=news.tenant, consumer=_CONSUMER, event_id=news.event_id):
        return False
    newest = _is_newest(conn, news)
    if messages:
        conn.execute(_INSERT, [_row(message, superseded=not newest) for message in messages])
    return newest


def _is_newest(conn: sa.Connection, news: News) -> bool:
    told = {"tenant": news.tenant, "order_id": news.order_id, "version": news.version, "status": news.status}
    return conn.execute(_advance(conn.dialect.name), told).rowcount == 1


@cache
def _advance(dialect: str) -> Any:
    """Built once: building a statement costs several times what running it does."""
    insert = upsert_in(dialect, orders)
    return insert.on_conflict_do_update(
        index_elements=[orders.c.tenant, orders.c.order_id],
        set_={"version": insert.excluded.version, "status": insert.excluded.status},
        where=orders.c.version < insert.excluded.version,
    )


def _row(message: Notification, *, superseded: bool) -> dict[str, Any]:
    row: dict[str, Any] = {field.name: getattr(message, field.name) for field in fields(message)}
    leased = message.lease_until is not None
    status = Status.SUPERSEDED if superseded else Status.SENDING if leased else Status.QUEUED
    return row | {
        "context": orjson.dumps(message.context).decode(),
        "status": status,
        "lease_until": message.lease_until if status is Status.SENDING else None,
        "next_attempt_at": message.created_at if status is Status.QUEUED else None,
    }


# --- sending ---


def _due(at: datetime) -> sa.ColumnElement[bool]:
    """Its time has come, or the process that had it is gone. Each column is null in every other status."""
    return sa.or_(notifications.c.next_attempt_at <= at, notifications.c.lease_until <= at)


def any_due(conn: sa.Connection) -> bool:
    return conn.execute(sa.select(notifications.c.id).where(_due(now())).limit(1)).first() is not None


def claim(conn: sa.Connection, *, lease_until: datetime, limit: int) -> list[Notification]:
    """Lease the oldest due rows, each to one process only; those that a newer event has overtaken are closed."""
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
    return sorted((_notification(row) for row in conn.execute(claimed)), key=lambda one: one.id)


def _supersede(conn: sa.Connection, at: datetime) -> None:
    newer = sa.exists().where(
        orders.c.tenant == notifications.c.tenant,
        orders.c.order_id == notifications.c.order_id,
        orders.c.version > notifications.c.version,
    )
    overtaken = sa.and_(_due(at), notifications.c.channel.in_(LATEST_ONLY), newer)
    closed = {"status": Status.SUPERSEDED, "next_attempt_at": None, "lease_until": None}
    conn.execute(sa.update(notifications).where(overtaken).values(closed))


def _notification(row: sa.Row[Any]) -> Notification:
    values: dict[str, Any] = {field.name: getattr(row, field.name) for field in fields(Notification)}
    values |= {"channel": ChannelName(row.channel), "context": orjson.loads(row.context)}
    return Notification(**values)


def settle(conn: sa.Connection, settled: Sequence[Settled]) -> None:
    """Write down how attempts ended, many at once."""
    by_status: dict[Status, list[dict[str, Any]]] = defaultdict(list)
    for one in settled:
        retry = retry_at(attempts=one.notification.attempts + 1, created_at=one.notification.created_at, at=one.at)
        status = status_after(one.outcome, retry=retry)
        by_status[status].append(_ending(one, retry if status is Status.QUEUED else None))
    for status, rows in by_status.items():
        conn.execute(_SETTLE[status], rows)


def _ending(one: Settled, retry: datetime | None) -> dict[str, Any]:
    delivered = isinstance(one.outcome, Delivered)
    return {
        "key": one.notification.id,
        "retry": retry,
        "heading": one.outcome.subject if isinstance(one.outcome, Delivered) else None,
        "reason": None if isinstance(one.outcome, Delivered) else one.outcome.error[:_LONGEST_ERROR],
        "ended": one.at if delivered else None,
    }


def _settling(status: Status) -> sa.Update:
    table = notifications
    return (
        sa.update(table)
        # No IN: SQLAlchemy can't expand one when many rows are updated at once.
        .where(table.c.id == sa.bindparam("key"), sa.or_(*(table.c.status == earlier for earlier in before(status))))
        .values(
            status=status,
            attempts=table.c.attempts + 1,
            next_attempt_at=sa.bindparam("retry"),
            lease_until=None,
            subject=sa.bindparam("heading"),
            error=sa.bindparam("reason"),
            sent_at=sa.bindparam("ended"),
        )
    )


_SETTLE = {status: _settling(status) for status in (Status.SENT, Status.FAILED, Status.QUEUED)}


def give_back(conn: sa.Connection, ids: Sequence[str]) -> None:
    """Not begun, and not to be begun by this process: due at once for whoever comes next."""
    mine = sa.and_(notifications.c.id.in_(ids), notifications.c.status == Status.SENDING)
    freed = {"status": Status.QUEUED, "next_attempt_at": now(), "lease_until": None}
    conn.execute(sa.update(notifications).where(mine).values(freed))


# --- dead letters in ---


def keep_dead(conn: sa.Connection, letter: DeadLetter) -> None:
    """Kept once. One that dies again after its replay waits for inspection again."""
    row = {field.name: getattr(letter, field.name) for field in fields(letter)}
    kept = (
        upsert(conn, dead_letters)
        .values(id=new_id(), received_at=now(), **row)
        .on_conflict_do_update(
            index_elements=[dead_letters.c.topic, dead_letters.c.event_id],
            set_={"received_at": now(), "replayed_at": None},
            where=dead_letters.c.replayed_at.is_not(None),
        )
    )
    conn.execute(kept)


# --- one tenant's view ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What to list; None is everything. `since` is inclusive, `until` exclusive."""

    recipient_id: str | None = None
    channel: ChannelName | None = None
    order_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where in a list, newest first: after the id `cursor` if there is one, else the page of that number (from 1)."""

    number: int = 1
    size: int = 20
    cursor: str | None = None


class Store:
    def __init__(self, db: Database, tenant: str) -> None:
        self._db = db
        self._tenant = tenant

    async def history(self, wanted: Filter, page: Page) -> tuple[list[sa.Row[Any]], str | None]:
        """Rows of `notifications`, and the cursor of the next page if there is one."""
        table = notifications
        told: tuple[tuple[Any, Any, Any], ...] = (
            (operator.eq, table.c.recipient_id, wanted.recipient_id),
            (operator.eq, table.c.channel, wanted.channel),
            (operator.eq, table.c.order_id, wanted.order_id),
            (operator.ge, table.c.created_at, wanted.since),
            (operator.lt, table.c.created_at, wanted.until),
        )
        conditions = [compare(column, value) for compare, column, value in told if value is not None]
        query = self._of_tenant(table).where(*conditions)
        return await self._page(table, query, page)

    async def notification(self, notification_id: str) -> sa.Row[Any] | None:
        return await self._one(notifications, notification_id)

    async def letters(self, page: Page) -> tuple[list[sa.Row[Any]], str | None]:
        return await self._page(dead_letters, self._of_tenant(dead_letters), page)

    async def letter(self, letter_id: str) -> sa.Row[Any] | None:
        return await self._one(dead_letters, letter_id)

    async def replayed(self, letter_id: str) -> None:
        mine = sa.and_(dead_letters.c.id == letter_id, dead_letters.c.tenant == self._tenant)
        done = sa.update(dead_letters).where(mine).values(replayed_at=now())
        await self._db.write(lambda conn: conn.execute(done))

    def _of_tenant(self, table: sa.Table) -> sa.Select[Any]:
        return sa.select(table).where(table.c.tenant == self._tenant)

    async def _one(self, table: sa.Table, key: str) -> sa.Row[Any] | None:
        query = self._of_tenant(table).where(table.c.id == key)
        return await self._db.read(lambda conn: conn.execute(query).first())

    async def _page(self, table: sa.Table, query: sa.Select[Any], page: Page) -> tuple[list[sa.Row[Any]], str | None]:
        """Ids are UUIDv7: their order is that of time, and one of them is a position."""
        query = query.order_by(table.c.id.desc()).limit(page.size + 1)
        if page.cursor is None:
            query = query.offset((page.number - 1) * page.size)
        else:
            query = query.where(table.c.id < page.cursor)
        rows = await self._db.read(lambda conn: list(conn.execute(query)))
        following = cast("str", rows[page.size - 1].id) if len(rows) > page.size else None
        return rows[: page.size], following
