"""What notification invokes, through the sidecar, to hand a person all that is held of them."""

from fastapi import Request

from chassis.edge.auth import Tenant
from chassis.edge.routes import Routes, refused
from chassis.erasure import PersonHeld, PersonWanted
from order.person_data import held
from order.services import services

router = Routes(tags=["invoked"], responses=refused({422: "invalid-request", 503: "database-unavailable"}))


@router.post("/person-data")
async def find_person_data(request: Request, tenant: Tenant, body: PersonWanted) -> PersonHeld:
    """Only notification calls, for an admin of that tenant."""
    found = await services(request).db.read(lambda conn: held(conn, tenant, body.person_id))
    return PersonHeld(held={"orders": found})
