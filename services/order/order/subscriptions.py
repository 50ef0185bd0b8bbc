"""Who hears what: notification tells what became of each message, and an order shows it of those about itself."""

import re

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request, Response
from pydantic import Field

from chassis.events import CloudEvent, receive
from chassis.ids import now
from chassis.wire import Wire
from order.domain import Notice, Notified
from order.services import services

_TOPIC = "notifications"
_UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_ORDER_ID = re.compile(_UUID)
_NOTICES = {
    "notification.sent.v1": Notice.SENT,
    "notification.delivered.v1": Notice.DELIVERED,
    "notification.failed.v1": Notice.FAILED,
}


class MessageMoved(Wire):
    """`version` rises within a message; of two messages the later has the greater id."""

    notification_id: str = Field(pattern=_UUID)
    subject_id: str
    version: int


def subscribe(app: FastAPI, *, app_id: str, pubsub: str) -> None:
    route, dead = f"/events/{_TOPIC}", f"{_TOPIC}.{app_id}.dead"
    DaprApp(app).subscribe(pubsub=pubsub, topic=_TOPIC, route=route, dead_letter_topic=dead)(take_notification)


async def take_notification(request: Request) -> Response:
    stores = services(request).stores

    async def take(_topic: str, event: CloudEvent) -> None:
        """Of every message that goes out: many are about something else, or about nothing."""
        if (notice := _NOTICES.get(event.type)) is None:
            return
        message = MessageMoved.model_validate(event.data)
        if _ORDER_ID.match(message.subject_id):
            notified = Notified(status=notice, at=event.time or now())
            await stores.of(event.tenantid).notified(
                message.subject_id, notified, message_id=message.notification_id, message_version=message.version
            )

    return await receive(request, _TOPIC, take)
