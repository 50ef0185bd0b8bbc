"""Who hears what: of whom nothing may be held any longer."""

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request, Response
from pydantic import AwareDatetime

from backoffice.person_data import erase_person
from backoffice.services import services
from chassis.events import CloudEvent, receive
from chassis.wire import Wire

_CUSTOMERS = "customers"


class CustomerErased(Wire):
    customer_id: str
    erased_at: AwareDatetime


def subscribe(app: FastAPI, *, app_id: str, pubsub: str) -> None:
    route, dead = f"/events/{_CUSTOMERS}", f"{_CUSTOMERS}.{app_id}.dead"
    DaprApp(app).subscribe(pubsub=pubsub, topic=_CUSTOMERS, route=route, dead_letter_topic=dead)(take_customer)


async def take_customer(request: Request) -> Response:
    made = services(request)

    async def take(_topic: str, event: CloudEvent) -> None:
        """What is told again erases nothing more. Where the content can't go at once, the sweep finds it."""
        if event.type != "customer.erased.v1":
            return
        person = CustomerErased.model_validate(event.data)
        erased = await made.db.write(
            lambda conn: erase_person(conn, event.tenantid, person.customer_id, before=person.erased_at)
        )
        if erased:  # not awaited: the sidecar waits for this answer
            made.tasks.spawn(made.keeping.sweep(), name="files.erase")
            made.tasks.spawn(made.expiry.sweep(), name="exports.erase")

    return await receive(request, _CUSTOMERS, take)
