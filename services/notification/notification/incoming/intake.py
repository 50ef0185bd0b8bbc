"""An event's whole effect, in one transaction: it is taken once, its recipient becomes known, and its messages are
written down or its saga begins."""

from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any

import sqlalchemy as sa

from chassis.db import Database, upsert_in
from chassis.events import CloudEvent, first_time
from chassis.ids import now
from chassis.tasks import Tasks
from notification.incoming.messages import messages
from notification.incoming.read_event import RoutedEvent, read
from notification.incoming.routing_table import RouteTable
from notification.incoming.saga import TellRef
from notification.incoming.saga_records import begin
from notification.queue.enqueue import enqueue
from notification.recipients.contacts import Contact, Contacts, Recipient
from notification.recipients.erasures import is_erased
from notification.sending.sender import Sender
from notification.tables import event_processing, subjects


def take(conn: sa.Connection, event: RoutedEvent) -> TellRef | None:
    """The saga that begins, if any. Messages of an event that comes after a newer one of its subject are kept,
    `suppressed` as superseded. One from before its person was erased has none."""
    consumer = f"notification.{event.topic}"[:64]
    taken = {"tenant": event.tenant, "consumer": consumer, "source": event.source, "event_id": event.event_id}
    if not first_time(conn, event_processing, **taken):
        return None
    if event.recipient is not None and is_erased(conn, event.tenant, event.recipient.id, event.at):
        return None
    if event.recipient is not None:
        Contacts(conn, event.tenant).feed(_contact(event, event.recipient))
    superseded = event.version > 0 and not _is_newest(conn, event)
    at_once = [route for route in event.routes if not route.step]
    enqueue(conn, messages(conn, event, at_once), at=now(), superseded=superseded)
    return begin(conn, event) if event.route.in_turn else None


def _contact(event: RoutedEvent, recipient: Recipient) -> Contact:
    return Contact(
        id=recipient.id,
        owner=event.owner or recipient.id,
        name=recipient.name,
        email=recipient.email,
        phone=recipient.phone,
        locale=recipient.locale,
        as_of=event.at,
        trusted=event.trusted,
    )


def _is_newest(conn: sa.Connection, event: RoutedEvent) -> bool:
    """Of its subject. Equal is not older: one version may be told of by several events."""
    row = {"tenant": event.tenant, "topic": event.topic, "subject_id": event.subject_id, "version": event.version}
    return conn.execute(_advance(conn.dialect.name), row).rowcount == 1


@cache
def _advance(dialect: str) -> Any:
    """Built once: building a statement costs several times what running it does."""
    insert = upsert_in(dialect, subjects)
    return insert.on_conflict_do_update(
        index_elements=[subjects.c.tenant, subjects.c.topic, subjects.c.subject_id],
        set_={"version": insert.excluded.version},
        where=subjects.c.version <= insert.excluded.version,
    )


class Intake:
    """`hand_over` gives a saga that has begun to its durable driver."""

    def __init__(
        self,
        *,
        db: Database,
        routes: RouteTable,
        sender: Sender,
        hand_over: Callable[[TellRef, str], Coroutine[Any, Any, None]],
        tasks: Tasks,
    ) -> None:
        self._db = db
        self._routes = routes
        self._sender = sender
        self._hand_over = hand_over
        self._tasks = tasks

    async def take(self, topic: str, cloud_event: CloudEvent) -> None:
        """The event's whole effect, once. An event that no route knows is for somebody else."""
        route = await self._routes.find(cloud_event.tenantid, topic, cloud_event.type)
        if route is None:
            return
        event = read(cloud_event, route)
        saga = await self._db.write(lambda conn: take(conn, event))
        self._sender.wake()
        if saga is not None:  # not awaited: the sidecar waits for this answer
            self._tasks.spawn(self._hand_over(saga, "begun"), name="saga.begin")

    async def check(self, topic: str, cloud_event: CloudEvent) -> None:
        """Raises InvalidEvent for one that could not be taken. Nothing is written."""
        if (route := await self._routes.find(cloud_event.tenantid, topic, cloud_event.type)) is not None:
            read(cloud_event, route)
