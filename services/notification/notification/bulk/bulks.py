"""Bulk: one template to thousands. The recipients are rows from the start; a worker of any replica takes them through
in chunks, those of several bulks in turn (worker.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import ceil
from typing import Any

import orjson
import sqlalchemy as sa

from chassis.ids import new_id, now
from chassis.tenants import elsewhere
from notification.domain import ChannelName, OtherTenant, UnknownBulk
from notification.idempotency import Key, Keys
from notification.queue.bulk_rate import Rates
from notification.queue.history import Page, Rows, paged
from notification.tables import attempts, bulk_recipients, bulks, notifications, of_group

_TWICE = "listed twice"


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
class NewBulk:
    """`recipients` are ids, each with what is its own in the context."""

    channel: ChannelName
    chain: tuple[ChannelName, ...]
    category: str
    template: str
    context: Mapping[str, Any]
    recipients: Sequence[tuple[str, Mapping[str, Any]]]
    author: str
    traceparent: str = ""


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

    def create(self, bulk: NewBulk, key: Key | None) -> tuple[str, bool]:
        """The bulk's id, and whether it was made now: a `key` stands for one. Raises IdempotencyMismatch."""
        bulk_id, at = new_id(), now()
        if key is not None:
            known = Keys(self._conn, self._tenant).take(key, bulk_id)
            if known is not True:
                return known, False
        row = {
            "id": bulk_id,
            "tenant": self._tenant,
            "author": bulk.author,
            "channel": bulk.channel,
            "chain": ",".join(bulk.chain),
            "category": bulk.category,
            "template": bulk.template,
            "context": orjson.dumps(bulk.context).decode(),
            "total": len(bulk.recipients),
            "taken": 0,
            "traceparent": bulk.traceparent,
            "created_at": at,
            "turn_at": at,
        }
        self._conn.execute(sa.insert(bulks), row)
        self._conn.execute(sa.insert(bulk_recipients), _recipient_rows(bulk_id, bulk.recipients))
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
        if elsewhere(self._conn, bulks, self._tenant, id=bulk_id):
            raise OtherTenant("Bulk")
        raise UnknownBulk(bulk_id)

    def _completed_at(self, bulk: sa.Row[Any]) -> datetime:
        """When the last attempt of its messages ended; of one without any, when its last recipient was taken."""
        joined = sa.join(attempts, notifications, attempts.c.notification_id == notifications.c.id)
        query = sa.select(sa.func.max(attempts.c.ended_at, type_=attempts.c.ended_at.type))
        last = self._conn.execute(query.select_from(joined).where(of_group(self._tenant, bulk.id))).scalar_one()
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
    recipients, messages = bulk_recipients, notifications
    refused = sa.case((recipients.c.error.is_not(None), Standing.FAILED), else_=Standing.PENDING)
    return (
        sa.select(
            recipients.c.number,
            recipients.c.recipient_id,
            recipients.c.notification_id,
            sa.func.coalesce(messages.c.status, refused).label("standing"),
            sa.func.coalesce(recipients.c.error, messages.c.error).label("error"),
        )
        .select_from(recipients.outerjoin(messages, messages.c.id == recipients.c.notification_id))
        .where(recipients.c.bulk_id == bulk_id)
        .subquery()
    )
