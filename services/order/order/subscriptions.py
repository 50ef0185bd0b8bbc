"""Who hears what: notification tells what became of each message, and an order shows it of those about itself; whom
nothing may be held of any longer; and the back office what is set."""

import re

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request, Response
from pydantic import AwareDatetime, Field

from chassis.events import CloudEvent, receive
from chassis.flags import snapshot
from chassis.ids import now
from chassis.wire import Wire
from order.domain import Notice, Notified
from order.person_data import erase_person, told_of
from order.services import services

_MESSAGES, _CUSTOMERS = "notifications", "customers"
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


class CustomerErased(Wire):
    customer_id: str
    erased_at: AwareDatetime


def subscribe(app: FastAPI, *, app_id: str, pubsub: str) -> None:
    dapr = DaprApp(app)
    heard = ((_MESSAGES, take_notification), (_CUSTOMERS, take_customer), (snapshot.TOPIC, take_setting))
    for topic, take in heard:
        dead = f"{topic}.{app_id}.dead"
        dapr.subscribe(pubsub=pubsub, topic=topic, route=f"/events/{topic}", dead_letter_topic=dead)(take)


async def take_setting(request: Request) -> Response:
    return await receive(request, snapshot.TOPIC, services(request).snapshot.take)


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

    return await receive(request, _MESSAGES, take)


async def take_customer(request: Request) -> Response:
    db = services(request).db

    async def take(_topic: str, event: CloudEvent) -> None:
        """What is told again erases nothing more."""
        if event.type == "customer.erased.v1":
            person = CustomerErased.model_validate(event.data)
            tenant, person_id, at = event.tenantid, person.customer_id, person.erased_at
            told = await db.read(lambda conn: told_of(conn, tenant, person_id, before=at))
            await db.write(lambda conn: erase_person(conn, tenant, person_id, before=at, told=told))

    return await receive(request, _CUSTOMERS, take)
