"""The history, as requests see it: bound to one tenant, and to a user's own, so that no query can forget it."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa

from chassis.ids import first_id
from chassis.tenants import elsewhere
from notification.domain import ChannelName, NotYours, OtherTenant, UnknownNotification
from notification.tables import attempts, notifications


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What to list; None is everything. `since` and `until` are inclusive."""

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

    def history(self, filters: Filter, page: Page) -> Rows:
        """Rows of `notifications`, newest first, and the cursor of the next page if there is one."""
        c = notifications.c
        asked = {c.subject_id: filters.subject_id, c.recipient_id: filters.recipient_id, c.owner: self._owner}
        asked |= {c.channel: filters.channel}
        query = sa.select(notifications).where(c.tenant == self._tenant)
        for number, (column, value) in enumerate((name, value) for name, value in asked.items() if value is not None):
            # Only the first, the narrowest, by its index: SQLite, which doesn't know how many there are, takes any.
            query = query.where((column if number == 0 else column.concat("")) == value)
        # Ids are UUIDv7, whose first 48 bits are the time they were made: a range of them is a range of the index.
        if filters.since is not None:
            query = query.where(c.id >= first_id(filters.since.timestamp() - _SKEW), c.created_at >= filters.since)
        if filters.until is not None:
            query = query.where(c.created_at <= filters.until)
            end = first_id(filters.until.timestamp() + _SKEW)
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
            if elsewhere(self._conn, table, self._tenant, id=notification_id):
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
