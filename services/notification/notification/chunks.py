"""What a bulk's worker writes, in the system scope: bulks of every tenant. A chunk's messages and the progress they are
go into one transaction: a process may die on any line."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from chassis.ids import new_id, now
from notification.domain import ChannelName, Notification, Status
from notification.drafts import first_reachable
from notification.locales import DEFAULT
from notification.pace import Rates, slots, wait_for
from notification.routing import Person
from notification.store import effect_of, enqueue
from notification.tables import bulk_recipients, bulks, contacts, notifications

CHUNK = 200

_UNKNOWN, _NO_ADDRESS = "unknown recipient", "no address"


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
    traceparent: str
    lease_until: datetime


def any_free(conn: sa.Connection) -> bool:
    return conn.execute(_free(now())).first() is not None


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
        traceparent=row.traceparent,
        lease_until=row.lease_until,
    )


def take_chunk(
    conn: sa.Connection, held: Leased, *, lease: timedelta, rates: Rates, size: int = CHUNK
) -> Leased | None:
    """The next recipients get their message or their refusal. None when they were the last, or when the lease ran out
    and somebody else has it."""
    at = now()
    after = replace(held, taken=min(held.taken + size, held.total), lease_until=at + lease)
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
    enqueue(conn, list(drafts.values()), at=at)
    wait_for(conn, slots(conn, _ready(conn, drafts.values()), rates, at))
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
        traceparent=bulk.traceparent,
        created_at=at,
        group_id=bulk.id,
    )


def _ready(conn: sa.Connection, drafts: Collection[Notification]) -> list[Notification]:
    """Those that would go at once, by the channel they would go by: not what its recipient holds or doesn't want."""
    table = notifications
    ids = table.c.id.in_([draft.id for draft in drafts])
    query = sa.select(table.c.id, table.c.channel).where(ids, table.c.status == Status.QUEUED, table.c.error.is_(None))
    channels = {row.id: ChannelName(row.channel) for row in conn.execute(query)}
    return [replace(draft, channel=channels[draft.id]) for draft in drafts if draft.id in channels]
