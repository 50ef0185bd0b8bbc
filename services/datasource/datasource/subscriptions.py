"""Who hears what: the back office tells what is set, and notification of whom nothing may be held any longer."""

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request, Response
from pydantic import AwareDatetime

from chassis.events import CloudEvent, receive
from chassis.flags import snapshot
from chassis.wire import Wire
from datasource.person_data import erase_person
from datasource.services import services

_CUSTOMERS = "customers"


class CustomerErased(Wire):
    customer_id: str
    erased_at: AwareDatetime


def subscribe(app: FastAPI, *, app_id: str, pubsub: str) -> None:
    dapr = DaprApp(app)
    for topic, take in ((_CUSTOMERS, take_customer), (snapshot.TOPIC, take_setting)):
        dead = f"{topic}.{app_id}.dead"
        dapr.subscribe(pubsub=pubsub, topic=topic, route=f"/events/{topic}", dead_letter_topic=dead)(take)


async def take_setting(request: Request) -> Response:
    return await receive(request, snapshot.TOPIC, services(request).snapshot.take)


async def take_customer(request: Request) -> Response:
    db = services(request).db

    async def take(_topic: str, event: CloudEvent) -> None:
        """Our own `customer.changed.v1` comes by here too. What is told again erases nothing more."""
        if event.type == "customer.erased.v1":
            person = CustomerErased.model_validate(event.data)
            at = person.erased_at
            await db.write(lambda conn: erase_person(conn, event.tenantid, person.customer_id, at=at))

    return await receive(request, _CUSTOMERS, take)
