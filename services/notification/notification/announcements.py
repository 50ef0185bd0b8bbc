"""What is told of a notification's moves, in the transaction of the move: an event to other services, and a row of the
change feed to whoever watches the recipient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from chassis.changes.feed import Changes, Entry
from chassis.outbox import Outbox
from notification.domain import Notification, Status
from notification.events import NotificationDelivered, NotificationEvent, NotificationFailed, NotificationSent

FEED = "notifications"

_EVENTS: dict[Status, type[NotificationEvent]] = {
    Status.SENT: NotificationSent,
    Status.DELIVERED: NotificationDelivered,
    Status.BOUNCED: NotificationFailed,
    Status.FAILED: NotificationFailed,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A notification that has just reached `status`. `words` are for the live feed."""

    id: str
    tenant: str
    owner: str
    event_id: str
    recipient_id: str
    channel: str
    category: str
    template: str
    subject_id: str
    status: Status
    traceparent: str
    words: str = ""


def moved(message: Notification | sa.Row[Any], status: Status, words: str = "") -> Moved:
    """`message` may be a row of `notifications`, which has the same names."""
    return Moved(
        id=message.id,
        tenant=message.tenant,
        owner=message.owner,
        event_id=message.event_id,
        recipient_id=message.recipient_id,
        channel=message.channel,
        category=message.category,
        template=message.template,
        subject_id=message.subject_id,
        status=status,
        traceparent=message.traceparent,
        words=words,
    )


def moved_row(row: sa.Row[Any]) -> Moved:
    """From a row of `notifications` as it is now."""
    return moved(row, Status(row.status), row.subject or "")


class Announcements:
    def __init__(self, *, outbox: Outbox, changes: Changes) -> None:
        self._outbox = outbox
        self._changes = changes

    def add(self, conn: sa.Connection, moves: Sequence[Moved]) -> None:
        """To the caller's transaction; after its commit, call `wake`."""
        for move in moves:
            if (event := _event(move)) is not None:
                self._outbox.add(conn, event, tenant=move.tenant, aggregate_id=move.id, parent=move.traceparent)
        self._changes.add_many(
            conn, [Entry(tenant=move.tenant, topic=FEED, key=move.recipient_id, data=_watched(move)) for move in moves]
        )

    def add_rows(self, conn: sa.Connection, rows: Sequence[sa.Row[Any]]) -> None:
        """The same for rows of `notifications` as they are now."""
        self.add(conn, [moved_row(row) for row in rows])

    def wake(self) -> None:
        self._outbox.wake()
        self._changes.wake()


def _event(move: Moved) -> NotificationEvent | None:
    if (kind := _EVENTS.get(move.status)) is None:
        return None
    return kind(
        version=1 if move.status is Status.SENT else 2,
        notification_id=move.id,
        event_id=move.event_id,
        recipient_id=move.recipient_id,
        owner_id=move.owner,
        channel=move.channel,
        category=move.category,
        template=move.template,
        subject_id=move.subject_id,
        status=move.status,
    )


def _watched(move: Moved) -> dict[str, Any]:
    return {
        "notificationId": move.id,
        "ownerId": move.owner,
        "channel": move.channel,
        "category": move.category,
        "template": move.template,
        "subjectId": move.subject_id,
        "status": move.status,
        "text": move.words,
    }
