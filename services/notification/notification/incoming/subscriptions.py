"""An event's whole effect, in one transaction: it is taken once, its recipient becomes known, and its messages are
written down or its saga begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
import structlog

from chassis.db import Database, upsert_in
from chassis.events import CloudEvent, first_time
from chassis.ids import now
from chassis.tasks import Tasks
from notification.domain import Notification
from notification.incoming.messages import messages
from notification.incoming.read_event import News, read
from notification.incoming.routing_table import RouteTable
from notification.incoming.saga import TellRef
from notification.incoming.saga_steps import Steps, begin
from notification.queue.enqueue import enqueue
from notification.recipients.contacts import Contact, Contacts, Person
from notification.sending.sender import Sender
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
    saga = begin(conn, news) if news.route.in_turn else None
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


log = structlog.get_logger()


class Intake:
    def __init__(self, *, db: Database, routes: RouteTable, sender: Sender, steps: Steps, tasks: Tasks) -> None:
        self._db = db
        self._routes = routes
        self._sender = sender
        self._steps = steps
        self._tasks = tasks

    async def take(self, topic: str, event: CloudEvent) -> None:
        """The event's whole effect, once; with `chassis.events.subscribe` for `/events/{topic}`, so that a new topic
        needs a Subscription and rows in the routing table. An event that no route knows is for somebody else."""
        route = await self._routes.find(event.tenantid, topic, event.type)
        if route is None:
            return
        news = read(event, route)
        lease = self._sender.lease()
        taken = await self._db.write(lambda conn: take(conn, news, lease_until=lease))
        self._sender.hand_over(taken.leased)
        if taken.saga is not None:  # not awaited: the sidecar waits for this answer
            self._tasks.spawn(self._steps.hand_over(taken.saga, "begun"), name="saga.begin")
