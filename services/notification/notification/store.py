"""Persistence. Functions over a connection serve events, whose rows carry their tenant; the classes serve requests and
are bound to one tenant, `Notifications` also to a user's own, so that no query can forget it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cache
from typing import Any, Literal, cast

import orjson
import sqlalchemy as sa

from chassis.db import upsert, upsert_in
from chassis.ids import first_id, new_id, now
from notification import tables
from notification.admission import Admitted, admit
from notification.domain import (
    ChannelName,
    IdempotencyMismatch,
    Notification,
    NotYours,
    OtherTenant,
    Status,
    UnknownDeadLetter,
    UnknownNotification,
)
from notification.policy import Hold, Send
from notification.system import elsewhere
from notification.tables import attempts, dead_letters, notifications

NO_ID = "sha256:"  # begins the `event_id` of a dead letter without an id of its own
_FIELDS = [field.name for field in fields(Notification) if field.name not in {"chain", "provider"}]


def effect_of(*parts: str) -> str:
    """The business key of a message, as long as its column whatever went into it."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


# --- messages in ---


def enqueue(
    conn: sa.Connection, drafts: Sequence[Notification], *, at: datetime, superseded: bool = False
) -> list[Notification]:
    """Write messages down, each effect once: to be sent, to wait for their time, or closed from the start.

    Answers those that hold a lease now, for `Sender.hand_over` after the commit.
    """
    reachable = [draft for draft in drafts if draft.address and not superseded]
    admitted = {one.message.id: one for one in admit(conn, reachable, at)}
    rows = [_row(draft, admitted.get(draft.id), at, superseded=superseded) for draft in drafts]
    written = _written(conn, rows)
    leased = {row["id"] for row in rows if row["status"] is Status.SENDING and row["id"] in written}
    return [admitted[draft.id].message for draft in drafts if draft.id in leased]


def _written(conn: sa.Connection, rows: list[dict[str, Any]]) -> set[str]:
    """The ids of those that were not there yet."""
    if not rows:
        return set()
    if len(rows) == 1:  # the hot path: its row count says it
        done = conn.execute(_insert(conn.dialect.name), rows[0]).rowcount == 1
        return {rows[0]["id"]} if done else set()
    conn.execute(_insert(conn.dialect.name), rows)
    ids = [row["id"] for row in rows]
    return set(conn.execute(sa.select(notifications.c.id).where(notifications.c.id.in_(ids))).scalars())


@cache
def _insert(dialect: str) -> Any:
    """Built once: building a statement costs several times what running it does."""
    return upsert_in(dialect, notifications).on_conflict_do_nothing(
        index_elements=[notifications.c.tenant, notifications.c.effect]
    )


def _row(draft: Notification, admitted: Admitted | None, at: datetime, *, superseded: bool) -> dict[str, Any]:
    message = admitted.message if admitted else draft
    row: dict[str, Any] = {name: getattr(message, name) for name in _FIELDS}
    row |= {"chain": ",".join(message.chain), "context": orjson.dumps(message.context).decode()}
    row |= {"error": None, "next_attempt_at": None, "lease_until": None}
    ended = row | {"lease_until": at}  # to be told of: see system.claim
    if superseded:
        return ended | {"status": Status.SUPPRESSED, "error": "superseded"}
    if admitted is None:
        return ended | {"status": Status.FAILED, "error": "no address"}
    match admitted.decision:
        case Send() if message.lease_until is not None:
            return row | {"status": Status.SENDING, "lease_until": message.lease_until}
        case Send():
            return row | {"status": Status.QUEUED, "next_attempt_at": at}
        case Hold(until=until, reason=reason):
            held = {"status": Status.QUEUED, "next_attempt_at": until, "error": reason}
            return row | held | {"digest_of": "" if admitted.digest else None}
        case refused:
            return ended | {"status": Status.SUPPRESSED, "error": refused.reason}


def posting(conn: sa.Connection, notification: Notification, provider: str) -> None:
    """`provider` is about to be asked to send it: whatever dies, it may have it from now on."""
    mine = sa.and_(notifications.c.tenant == notification.tenant, notifications.c.id == notification.id)
    conn.execute(sa.update(notifications).where(mine).values(provider=provider))


# --- dead letters in ---


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that nobody could process. `event_id` is the body's hash where it has no id, `topic` may be empty."""

    tenant: str
    topic: str
    event_id: str
    type: str
    body: str


def keep_dead(conn: sa.Connection, letter: DeadLetter) -> None:
    """Kept once, as of when it came last: one that dies again after its replay waits for inspection again."""
    row = {field.name: getattr(letter, field.name) for field in fields(letter)}
    kept = (
        upsert(conn, dead_letters)
        .values(id=new_id(), received_at=now(), **row)
        .on_conflict_do_update(
            index_elements=[dead_letters.c.tenant, dead_letters.c.topic, dead_letters.c.event_id],
            set_={"received_at": now(), "replayed_at": None},
        )
    )
    conn.execute(kept)


# --- what requests see ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What to list; None is everything. `since` is inclusive, `until` exclusive."""

    recipient_id: str | None = None
    channel: ChannelName | None = None
    subject_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where in a list, newest first: after the id `cursor` if there is one, else the page of that number (from 1)."""

    number: int = 1
    size: int = 20
    cursor: str | None = None


Rows = tuple[list[sa.Row[Any]], str | None]

_SKEW = 2.0  # seconds: an id is made a moment before or after its row's `created_at`


class Notifications:
    """A tenant's notifications; those of one `owner`, None for everybody's."""

    def __init__(self, conn: sa.Connection, tenant: str, owner: str | None = None) -> None:
        self._conn = conn
        self._tenant = tenant
        self._owner = owner

    def history(self, wanted: Filter, page: Page) -> Rows:
        """Rows of `notifications`, newest first, and the cursor of the next page if there is one."""
        c = notifications.c
        asked = {c.subject_id: wanted.subject_id, c.recipient_id: wanted.recipient_id, c.owner: self._owner}
        asked |= {c.channel: wanted.channel}
        query = sa.select(notifications).where(c.tenant == self._tenant)
        for number, (column, value) in enumerate((name, value) for name, value in asked.items() if value is not None):
            # Only the first, the narrowest, by its index: SQLite, which doesn't know how many there are, takes any.
            query = query.where((column if number == 0 else column.concat("")) == value)
        # Ids are UUIDv7, whose first 48 bits are the time they were made: a range of them is a range of the index.
        if wanted.since is not None:
            query = query.where(c.id >= first_id(wanted.since.timestamp() - _SKEW), c.created_at >= wanted.since)
        if wanted.until is not None:
            query = query.where(c.created_at < wanted.until)
            end = first_id(wanted.until.timestamp() + _SKEW)
            if page.cursor is None:
                query = query.where(c.id < end)
            else:  # of two bounds SQLite takes one
                page = replace(page, cursor=min(page.cursor, end))
        return paged(self._conn, notifications, query, page)

    def get(self, notification_id: str) -> sa.Row[Any]:
        """Raises UnknownNotification, OtherTenant or NotYours."""
        table = notifications
        query = sa.select(table).where(table.c.tenant == self._tenant, table.c.id == notification_id)
        if (row := self._conn.execute(query).one_or_none()) is None:
            if elsewhere(self._conn, table, notification_id, self._tenant):
                raise OtherTenant("Notification")
            raise UnknownNotification(notification_id)
        if self._owner not in {None, row.owner}:
            raise NotYours("It tells of somebody else's business")
        return row

    def attempts(self, notification_id: str) -> list[sa.Row[Any]]:
        """Of a notification that `get` has given."""
        query = sa.select(attempts).where(attempts.c.notification_id == notification_id).order_by(attempts.c.id)
        return list(self._conn.execute(query))

    def by_effect(self, effect: str) -> sa.Row[Any] | None:
        table = notifications
        query = sa.select(table).where(table.c.tenant == self._tenant, table.c.effect == effect)
        row = self._conn.execute(query).one_or_none()
        return row if row is not None and self._owner in {None, row.owner} else None


class Letters:
    """A tenant's dead letters."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def page(self, page: Page) -> Rows:
        return paged(self._conn, dead_letters, sa.select(dead_letters).where(self._mine), page)

    def replayed(self, letter_id: str, received_at: datetime) -> sa.Row[Any]:
        """The letter, now marked as published again, unless it has died again since it was received at that time."""
        same = sa.and_(dead_letters.c.id == letter_id, dead_letters.c.received_at == received_at)
        self._conn.execute(sa.update(dead_letters).where(self._mine, same).values(replayed_at=now()))
        return self.get(letter_id)

    def get(self, letter_id: str) -> sa.Row[Any]:
        """Raises UnknownDeadLetter or OtherTenant."""
        query = sa.select(dead_letters).where(self._mine, dead_letters.c.id == letter_id)
        if (row := self._conn.execute(query).one_or_none()) is not None:
            return row
        if elsewhere(self._conn, dead_letters, letter_id, self._tenant):
            raise OtherTenant("Dead letter")
        raise UnknownDeadLetter(letter_id)

    @property
    def _mine(self) -> sa.ColumnElement[bool]:
        """What every statement here is bound to."""
        return dead_letters.c.tenant == self._tenant


class Keys:
    """What a tenant's callers' Idempotency-Keys stand for."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def find(self, key: str, body_hash: str) -> str | None:
        """What `key` stands for. Raises IdempotencyMismatch."""
        table = tables.keys
        query = sa.select(table).where(table.c.tenant == self._tenant, table.c.key == key)
        if (known := self._conn.execute(query).one_or_none()) is None:
            return None
        if known.body_hash != body_hash:
            raise IdempotencyMismatch
        return cast("str", known.made)

    def take(self, key: str, body_hash: str, made: str) -> str | Literal[True]:
        """True when `key` now stands for `made`; else what it stood for before. Raises IdempotencyMismatch."""
        table = tables.keys
        row = {"tenant": self._tenant, "key": key, "body_hash": body_hash, "made": made, "created_at": now()}
        if self._conn.execute(upsert(self._conn, table).values(row).on_conflict_do_nothing()).rowcount == 1:
            return True
        known = self.find(key, body_hash)
        if known is None:
            raise AssertionError(key)  # keys are deleted a day later, by nobody else
        return known


def paged(conn: sa.Connection, table: sa.Table, query: sa.Select[Any], page: Page) -> Rows:
    """Ids are UUIDv7: their order is that of time, and one of them is a position."""
    newest = table.c.id.desc()
    query = query.order_by(newest).limit(page.size + 1)
    if page.cursor is not None:
        query = query.where(table.c.id < page.cursor)
    elif page.number > 1:  # by ids, which stand in the index: of the rows that are passed over none is read
        ids = query.with_only_columns(table.c.id).offset((page.number - 1) * page.size)
        query = sa.select(table).where(table.c.id.in_(ids)).order_by(newest)
    rows = list(conn.execute(query))
    following = cast("str", rows[page.size - 1].id) if len(rows) > page.size else None
    return rows[: page.size], following
