"""Webhooks in: authenticated by their signature alone."""

from fastapi import Request, Response
from pydantic import ValidationError

from chassis.edge.routes import Routes, refused
from chassis.problems import FieldProblem, Invalid, Problem, invalid, pointer_to
from chassis.webhooks import NotSigned
from payment.services import services
from payment.webhooks import MAX_ID, parse

router = Routes(prefix="/api/v1", tags=["webhooks"])


@router.post(
    "/webhooks/{provider}",
    status_code=204,
    responses=refused(
        {
            400: "malformed-json",
            401: "webhook-not-signed",
            404: "provider-not-found",
            422: "invalid-request",
            503: "database-unavailable",
        }
    ),
)
async def take_webhook(provider: str, request: Request) -> Response:
    """A provider's word on a charge or refund (Standard Webhooks). Repetitions and late ones do nothing."""
    made = services(request)
    if provider not in made.by_name:
        raise Problem(status=404, error_type="provider-not-found", title="No such provider")
    body = await request.body()
    try:
        delivery_id = made.webhooks.verify(provider, body, request.headers)
    except NotSigned as unsigned:
        raise Problem(status=401, error_type="webhook-not-signed", title="Not signed", detail=str(unsigned)) from None
    if len(delivery_id) > MAX_ID:
        raise Invalid("webhook-id", f"It is longer than {MAX_ID} characters.")
    try:
        delivery = parse(body)
    except ValidationError as wrong:
        raise invalid([_field(error["loc"], error["msg"]) for error in wrong.errors()]) from None
    except ValueError:
        raise Problem(status=400, error_type="malformed-json", title="The body is not valid JSON") from None
    if delivery is not None:
        await made.webhooks.take(provider, delivery_id, delivery)
    return Response(status_code=204)


def _field(location: tuple[int | str, ...], why: str) -> FieldProblem:
    return FieldProblem(pointer=pointer_to(location), detail=why)
