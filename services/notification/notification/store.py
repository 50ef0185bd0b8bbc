"""Persistence. Units of work for events, whose rows carry their tenant; `Store` and `Letters` for requests.

Each of those is made for one tenant, `Store` also for a user's own notifications, so that no query can forget it.
"""

import operator
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
    ChannelName,
    DeadLetterOfOtherTenant,
    Notification,
    NotificationOfOtherTenant,
    NotYourNotification,
    Status,
    UnknownDeadLetter,
    UnknownNotification,
)
from notification.system import tenant_of
from notification.tables import dead_letters, event_processing, notifications, orders

_INSERT = sa.insert(notifications)
_CONSUMER = "notification.orders"
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


# --- dead letters in ---


def keep_dead(conn: sa.Connection, letter: DeadLetter) -> None:
    """Kept once. One that dies again after its replay waits for inspection again."""
    row = {field.name: getattr(letter, field.name) for field in fields(letter)}
    kept = (
        upsert(conn, dead_letters)
        .values(id=new_id(), received_at=now(), **row)
        .on_conflict_do_update(
            index_elements=[dead_letters.c.tenant, dead_letters.c.topic, dead_letters.c.event_id],
            set_={"received_at": now(), "replayed_at": None},
            where=dead_letters.c.replayed_at.is_not(None),
        )
    )
    conn.execute(kept)


# --- what requests see ---


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
    """A tenant's notifications; those of one `owner`, None for everybody's."""

    def __init__(self, db: Database, tenant: str, owner: str | None) -> None:
        self._db = db
        self._tenant = tenant
        self._owner = owner

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
        return await _page(self._db, table, self._mine().where(*conditions), page)

    async def notification(self, notification_id: str) -> sa.Row[Any]:
        """Raises UnknownNotification, NotificationOfOtherTenant or NotYourNotification."""

        def work(conn: sa.Connection) -> sa.Row[Any]:
            row = conn.execute(self._mine().where(notifications.c.id == notification_id)).one_or_none()
            if row is not None:
                return row
            match tenant_of(conn, notifications, notification_id):
                case None:
                    raise UnknownNotification(notification_id)
                case self._tenant:
                    raise NotYourNotification
                case _:
                    raise NotificationOfOtherTenant

        return await self._db.read(work)

    def _mine(self) -> sa.Select[Any]:
        """What every read of this store begins with."""
        query = sa.select(notifications).where(notifications.c.tenant == self._tenant)
        return query if self._owner is None else query.where(notifications.c.owner == self._owner)


class Letters:
    """A tenant's dead letters."""

    def __init__(self, db: Database, tenant: str) -> None:
        self._db = db
        self._tenant = tenant

    async def page(self, page: Page) -> tuple[list[sa.Row[Any]], str | None]:
        """Rows of `dead_letters`, and the cursor of the next page if there is one."""
        return await _page(self._db, dead_letters, sa.select(dead_letters).where(self._mine), page)

    async def letter(self, letter_id: str) -> sa.Row[Any]:
        """Raises UnknownDeadLetter or DeadLetterOfOtherTenant."""
        return await self._db.read(lambda conn: self._letter(conn, letter_id))

    async def replayed(self, letter_id: str) -> sa.Row[Any]:
        """The letter, now marked as published again."""

        def work(conn: sa.Connection) -> sa.Row[Any]:
            done = sa.update(dead_letters).where(self._mine, dead_letters.c.id == letter_id)
            conn.execute(done.values(replayed_at=now()))
            return self._letter(conn, letter_id)

        return await self._db.write(work)

    def _letter(self, conn: sa.Connection, letter_id: str) -> sa.Row[Any]:
        query = sa.select(dead_letters).where(self._mine, dead_letters.c.id == letter_id)
        if (row := conn.execute(query).one_or_none()) is not None:
            return row
        if tenant_of(conn, dead_letters, letter_id) is None:
            raise UnknownDeadLetter(letter_id)
        raise DeadLetterOfOtherTenant

    @property
    def _mine(self) -> sa.ColumnElement[bool]:
        """What every statement of this store is bound to."""
        return dead_letters.c.tenant == self._tenant


async def _page(
    db: Database, table: sa.Table, query: sa.Select[Any], page: Page
) -> tuple[list[sa.Row[Any]], str | None]:
    """Ids are UUIDv7: their order is that of time, and one of them is a position."""
    query = query.order_by(table.c.id.desc()).limit(page.size + 1)
    if page.cursor is None:
        query = query.offset((page.number - 1) * page.size)
    else:
        query = query.where(table.c.id < page.cursor)
    rows = await db.read(lambda conn: list(conn.execute(query)))
    following = cast("str", rows[page.size - 1].id) if len(rows) > page.size else None
    return rows[: page.size], following
