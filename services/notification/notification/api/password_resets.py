"""Password resets: asked for by anybody, redeemed by whoever has the link."""

from typing import Annotated

from fastapi import Request, Response
from pydantic import Field

from chassis.addresses import EmailAddress
from chassis.edge.auth import TENANT
from chassis.edge.routes import Routes, refused
from chassis.ids import now
from chassis.telemetry import traceparent
from chassis.wire import RequestBody, Wire, example
from notification.domain import DEFAULT_TENANT
from notification.password_reset import draft
from notification.queue.enqueue import enqueue
from notification.services import services


class ResetRequest(RequestBody, json_schema_extra=example(email="ada@example.org")):
    """`tenantId` where accounts are of another tenant than `default`."""

    email: EmailAddress
    tenant_id: Annotated[str, Field(pattern=TENANT)] = DEFAULT_TENANT


class Redemption(RequestBody, json_schema_extra=example(token="the-one-from-the-link")):  # noqa: S106
    token: Annotated[str, Field(min_length=1, max_length=128, repr=False)]


class ResetAccepted(Wire):
    message: str = "If an account with that email exists, a reset link has been sent."


router = Routes(
    prefix="/api/v1/password-resets",
    tags=["password resets"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


@router.post("", status_code=202)
async def ask_for_password_reset(request: Request, body: ResetRequest) -> ResetAccepted:
    """The same answer, by the same work, whether or not anybody has that address."""
    made = services(request)
    message = draft(tenant=body.tenant_id, email=body.email, traceparent=traceparent())
    await made.units.write(body.tenant_id, lambda unit: enqueue(unit.conn, [message], at=now()))
    made.sender.wake()
    return ResetAccepted()


@router.post("/redeem", status_code=204, response_class=Response, responses=refused({410: "reset-gone"}))
async def redeem_password_reset(request: Request, body: Redemption) -> Response:
    """204 once; afterwards, and for whatever is no valid token, 410."""
    resets = services(request).resets
    await resets.redeem(body.token)
    return Response(status_code=204)
