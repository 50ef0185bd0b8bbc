"""An event's whole effect, in one transaction: it is taken once, its recipient becomes known, and its messages are
written down or its saga begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from chassis.db import upsert_in
from chassis.events import first_time
from chassis.ids import now
from notification import sagas
from notification.contacts import Contact, Contacts
from notification.domain import Notification
from notification.drafts import messages
from notification.routing import News, Person
from notification.saga import TellRef
from notification.store import enqueue
from notification.tables import event_processing, subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What is to be done after the commit: send what holds a lease, drive the saga that has begun."""

    leased: Sequence[Notification] = ()
    saga: TellRef | None = None


def take(conn: sa.Connection, news: News, *, lease_until: datetime | None) -> Taken:
    """Messages of an event that comes after a newer one of its subject are kept, `suppressed` as superseded."""
    consumer = f"notification.{news.topic}"[:64]
    if not first_time(conn, event_processing, tenant=news.tenant, consumer=consumer, event_id=news.event_id):
        return Taken()
    if news.person is not None:
        Contacts(conn, news.tenant).feed(_contact(news, news.person))
    saga = sagas.begin(conn, news) if news.route.in_turn else None
    superseded = news.version > 0 and not _is_newest(conn, news)
    at_once = [route for route in news.routes if not route.step]
    drafts = messages(conn, news, at_once, lease_until=lease_until)
    return Taken(leased=enqueue(conn, drafts, at=now(), superseded=superseded), saga=saga)


def _contact(news: News, person: Person) -> Contact:
    return Contact(
        id=person.id,
        owner=news.owner or person.id,
        name=person.name,
        email=person.email,
        phone=person.phone,
        locale=person.locale,
        as_of=news.at,
        trusted=news.trusted,
    )


def _is_newest(conn: sa.Connection, news: News) -> bool:
    told = {"tenant": news.tenant, "topic": news.topic, "subject_id": news.subject_id, "version": news.version}
    return conn.execute(_advance(conn.dialect.name), told).rowcount == 1


@cache
def _advance(dialect: str) -> Any:
    """Built once: building a statement costs several times what running it does."""
    insert = upsert_in(dialect, subjects)
    return insert.on_conflict_do_update(
        index_elements=[subjects.c.tenant, subjects.c.topic, subjects.c.subject_id],
        set_={"version": insert.excluded.version},
        where=subjects.c.version < insert.excluded.version,
    )
