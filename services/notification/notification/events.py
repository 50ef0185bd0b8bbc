"""Facts that the notification service announces; the source of contracts/events. A changed meaning is a new type."""

from datetime import datetime
from typing import Any, ClassVar

from pydantic import ConfigDict

from chassis.events import Event

_EXAMPLE: dict[str, Any] = {
    "version": 1,
    "notificationId": "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0b01",
    "eventId": "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0c01",
    "recipientId": "c-1",
    "ownerId": "u-1",
    "channel": "email",
    "category": "OrderUpdates",
    "template": "order-confirmed",
    "subjectId": "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01",
    "status": "sent",
}


class NotificationEvent(Event):
    """What became of one message about `subjectId`, an order's id or a loan's. `version` is 1 for "sent", which another
    word may follow, and 2 for the last one, whoever says it and whether or not it was ever sent. Later messages have
    greater ids. No address and no words are in it."""

    topic: ClassVar[str] = "notifications"

    notification_id: str
    event_id: str
    recipient_id: str
    owner_id: str
    channel: str
    category: str
    template: str
    subject_id: str
    status: str


class NotificationSent(NotificationEvent):
    """A provider took it."""

    type: ClassVar[str] = "notification.sent.v1"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})


class NotificationDelivered(NotificationEvent):
    type: ClassVar[str] = "notification.delivered.v1"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE | {"version": 2, "status": "delivered"}]})


class NotificationFailed(NotificationEvent):
    """It reaches nobody, and no other channel takes over: `status` is failed or bounced."""

    type: ClassVar[str] = "notification.failed.v1"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE | {"version": 2, "status": "bounced"}]})


class CustomerErased(Event):
    """A person was erased here, and is to be erased by whoever has heard of them before `erasedAt`. `version` counts
    how often."""

    topic: ClassVar[str] = "customers"
    type: ClassVar[str] = "customer.erased.v1"
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"version": 1, "customerId": "c-1", "erasedAt": "2026-11-28T09:00:00Z"}]}
    )

    customer_id: str
    erased_at: datetime


EVENTS = (NotificationSent, NotificationDelivered, NotificationFailed, CustomerErased)
