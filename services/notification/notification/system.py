"""The system scope: rows of every tenant. Named and kept apart, because what a request sees is never decided here."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from chassis.ids import now
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
from notification.tables import notifications, orders

_LONGEST_ERROR = 255


def tenant_of(conn: sa.Connection, table: sa.Table, key: str) -> str | None:
    """Whose a row is that was missed: it alone tells "another tenant's" from "there is none"."""
    return conn.execute(sa.select(table.c.tenant).where(table.c.id == key)).scalar_one_or_none()


# --- the sender's view: what is due, whoever's it is ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One attempt, ended at `at`."""

    notification: Notification
    outcome: Outcome
    at: datetime


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
