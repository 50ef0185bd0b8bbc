"""What order invokes, through the sidecar: get-or-drive. Business outcomes are values in a 200."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import unquote

from fastapi import Header, Request, Response
from pydantic import Field

from chassis.cards import CardToken
from chassis.edge.auth import Tenant
from chassis.edge.routes import Routes, refused
from chassis.wire import Wire, example
from payment import routing
from payment.charges import WantedCharge
from payment.currencies import exponent_of
from payment.domain import CAPTURED, Charge, Refund, Status, Waits, minor_units
from payment.refunds import WantedRefund
from payment.services import Services, services
from payment.shapes import PRINTABLE, Amount, Body
from payment.store import PaymentStore

Key = Annotated[str, Field(max_length=255, pattern=r"^[\x21-\x7e]+$")]  # it stands in a header
# For logs, spans and events; percent-encoded, since a header has no other letters.
TenantName = Annotated[str, Header(alias="X-Tenant-Name", max_length=3000)]


class ProcessPayment(
    Body,
    json_schema_extra=example(
        key="order-1:charge", orderId="order-1", amount="4.50", paymentMethod="credit_card", cardToken="tok_ok"
    ),
):
    """`amount` is a decimal string. `settleOnly` finds out what became of the key; from then on nothing is charged."""

    key: Key
    order_id: Annotated[str, Field(max_length=64, pattern=PRINTABLE)]
    amount: Amount
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    payment_method: Annotated[str, Field(max_length=16, pattern=PRINTABLE)]
    card_token: CardToken | None = None
    description: Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    settle_only: Annotated[bool, Field(strict=True)] = False


class PaymentResult(Wire):
    success: bool
    payment_id: str
    status: Literal["succeeded", "declined", "failed", "processing"]
    transaction_id: str | None
    error_message: str | None
    processed_at: datetime | None


class RefundPayment(
    Body,
    json_schema_extra=example(key="order-1:refund", paymentId="0192f0c8-6f0e-7cc3-9a3d-0a4d3f1c2b1a", amount="4.50"),
):
    key: Key
    payment_id: Annotated[str, Field(max_length=36, pattern=PRINTABLE)]
    amount: Amount


class RefundResult(Wire):
    success: bool
    refund_id: str
    status: Literal["succeeded", "failed", "processing"]
    error_message: str | None
    processed_at: datetime | None


router = Routes(tags=["invoked"])


@router.post(
    "/process-payment",
    response_model=PaymentResult,
    responses=refused({422: "invalid-request, idempotency-mismatch"}),
)
async def process_payment(
    request: Request, tenant: Tenant, body: ProcessPayment, tenant_name: TenantName = ""
) -> Response:
    """Charge once per key. `processing` when it isn't known within 6 s; asking again joins or drives it on."""
    return _answer(await process(services(request), tenant, body, tenant_name=unquote(tenant_name)[:255]))


@router.post(
    "/refund-payment",
    response_model=RefundResult,
    responses=refused(
        {
            404: "payment-not-found",
            409: "refund-exceeds-captured",
            422: "invalid-request, idempotency-mismatch",
        }
    ),
)
async def refund_payment(request: Request, tenant: Tenant, body: RefundPayment) -> Response:
    """Give back once per key, never more than was captured. A `failed` one is tried again when asked again."""
    return _answer(await refund(services(request), tenant, body))


async def process(made: Services, tenant: str, request: ProcessPayment, *, tenant_name: str = "") -> PaymentResult:
    amount = Decimal(request.amount)
    wanted = WantedCharge(
        tenant_name=tenant_name,
        key=request.key,
        order_id=request.order_id,
        amount=minor_units(amount, exponent_of(request.currency)),
        currency=request.currency,
        method=request.payment_method,
        description=request.description,
        card_token=request.card_token,
        settle_only=request.settle_only,
    )
    route = await _route(made, tenant, request, amount)
    if not route:  # a definite refusal to process: final `failed` under the key, and nobody is asked
        wanted, route = wanted.model_copy(update={"settle_only": True}), ["none"]
    charge, is_new = await made.charges.get_or_insert(tenant, wanted, route)
    return _payment_result(await made.charge_driver.drive(charge, fresh=is_new))


async def _route(made: Services, tenant: str, request: ProcessPayment, amount: Decimal) -> list[str]:
    """Empty where no rule takes it. The rules are for new charges: what is on record stays where it is."""
    route = routing.route(made.routes.rules, key=request.key, amount=amount, currency=request.currency)
    if not route and (known := await made.charges.find(tenant, request.key)) is not None:
        return [known.provider]
    return route


async def refund(made: Services, tenant: str, request: RefundPayment) -> RefundResult:
    """Order is owed all of it, and asks again until it is through: what others have given back counts."""
    charge = await PaymentStore(made.charges, tenant).get(request.payment_id)
    amount = minor_units(Decimal(request.amount), exponent_of(charge.currency))
    wanted = WantedRefund(key=request.key, payment_id=request.payment_id, amount=amount)
    match await made.refunds.get_or_reserve(tenant, wanted):
        case Waits(behind=other):
            return _refund_result(other)  # processing
        case refund, is_new:
            return _refund_result(await made.refund_driver.drive(refund, fresh=is_new))


def _answer(result: PaymentResult | RefundResult) -> Response:
    return Response(result.model_dump_json(by_alias=True), media_type="application/json")


def _payment_result(charge: Charge) -> PaymentResult:
    captured = charge.status in CAPTURED
    return PaymentResult(
        success=captured,
        payment_id=charge.id,
        status=_outcome(charge.status),
        transaction_id=charge.transaction_id,
        error_message=charge.reason,
        processed_at=charge.processed_at,
    )


def _outcome(status: Status) -> Literal["succeeded", "declined", "failed", "processing"]:
    """What became of the charge; whether some of it went back later is another question."""
    match status:
        case Status.PROCESSING:
            return "processing"
        case Status.DECLINED:
            return "declined"
        case Status.FAILED:
            return "failed"
        case _:
            return "succeeded"


def _refund_result(refund: Refund) -> RefundResult:
    return RefundResult(
        success=refund.status == "succeeded",
        refund_id=refund.id,
        status=refund.status.value,
        error_message=refund.reason,
        processed_at=refund.processed_at,
    )
