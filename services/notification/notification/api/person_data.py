"""One person's data, for an administrator: all that any service holds, and its erasure everywhere."""

from typing import Any

from fastapi import Request, Response

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.ids import now
from chassis.telemetry import traceparent
from chassis.wire import Wire
from notification.api.recipients import Key
from notification.person_data import erase_person, held, mentioned
from notification.services import services


class PersonData(Wire):
    """By service and kind, each a list of what its rows say. Payment holds nothing of a person."""

    customer_id: str
    services: dict[str, dict[str, list[dict[str, Any]]]]


router = Routes(prefix="/api/v1/recipients", tags=["recipients"], responses=refused({422: "invalid-request"}))


@router.get(
    "/{recipient_id}/export",
    responses=refused(
        {
            503: "database-unavailable, order-service-unavailable, backoffice-service-unavailable, "
            "datasource-service-unavailable"
        }
    ),
)
async def export_person(request: Request, recipient_id: Key) -> PersonData:
    """Everything, or a refusal: never a part that looks like the whole. Nothing is held of one whom nobody knows."""
    caller, made = caller_of(request), services(request)
    own = await made.db.read(lambda conn: held(conn, caller.tenant, recipient_id))
    others = await made.person_holders.held(caller.tenant, recipient_id)
    return PersonData(customer_id=recipient_id, services={"notification-service": own, **others})


@router.delete("/{recipient_id}", status_code=204, responses=refused({503: "database-unavailable"}))
async def erase_recipient(request: Request, recipient_id: Key) -> Response:
    """Here at once, in all other services by the event `customer.erased.v1`. It may be asked for again at any time."""
    caller, made, parent = caller_of(request), services(request), traceparent()
    told = await made.db.read(lambda conn: mentioned(conn, caller.tenant, recipient_id))
    at = now()
    await made.db.write(
        lambda conn: erase_person(
            conn, caller.tenant, recipient_id, at=at, told=told, announce=made.outbox, parent=parent
        )
    )
    made.outbox.wake()
    return Response(status_code=204)
