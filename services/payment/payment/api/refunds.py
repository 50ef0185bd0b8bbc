"""The refund API: one refund per Idempotency-Key, which every call needs."""

import hashlib
from decimal import Decimal
from typing import Annotated, Any

import orjson
from fastapi import Header, Request, Response

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.problems import Problem
from chassis.wire import example
from payment.api.payments import PaymentId
from payment.currencies import exponent_of
from payment.domain import AmountDoesNotFit, Charge, Refund, RefundStatus, minor_units
from payment.services import services
from payment.shapes import Amount, Body, Money, RefundView
from payment.store import PaymentStore

MAX_KEY = 255

_REFUSED = {
    400: "idempotency-key-missing",
    403: "different-tenant",
    404: "payment-not-found",
    409: "refund-exceeds-captured, idempotency-in-flight",
    422: "invalid-request, idempotency-mismatch",
    503: "database-unavailable",
}
_HEADERS: dict[str, Any] = {
    "Location": {"description": "The payment's refunds", "required": True, "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true` when the key's refund stood there already",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
_RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
_MADE: dict[int | str, dict[str, Any]] = {
    201: {"description": "Given back, or (`failed`) refused by the provider for good", "headers": _HEADERS},
    202: {"model": RefundView, "description": "The outcome isn't known yet", "headers": _HEADERS | _RETRY_AFTER},
}


class AskedMoney(Money, Body):
    pass


class RefundRequest(Body, json_schema_extra=example(amount={"amount": "1.50", "currency": "USD"})):
    """`amount` in the payment's currency, as money or as its decimal string alone; none is all that is left."""

    amount: AskedMoney | Amount | None = None

    def minor(self, charge: Charge) -> int | None:
        match self.amount:
            case None:
                return None
            case AskedMoney(amount=amount, currency=currency):
                if currency != charge.currency:
                    raise AmountDoesNotFit("/amount/currency", f"The payment is in {charge.currency}.")
            case str() as amount:
                pass
        return minor_units(Decimal(amount), exponent_of(charge.currency))


router = Routes(prefix="/api/v1", tags=["refunds"])


@router.post(
    "/payments/{payment_id}/refunds",
    status_code=201,
    response_model=RefundView,
    responses=_MADE | refused(_REFUSED),
)
async def make_refund(
    request: Request,
    payment_id: PaymentId,
    body: RefundRequest,
    idempotency_key: Annotated[str | None, Header(max_length=MAX_KEY)] = None,
) -> Response:
    """Give back all or a part, never more in all than was captured. 202 while it isn't known; repeating says."""
    made, caller = services(request), caller_of(request)
    if not idempotency_key:
        raise Problem(
            status=400,
            error_type="idempotency-key-missing",
            title="An Idempotency-Key is required",
            detail="Without one a repetition could not be told from a second refund.",
        )
    charge = await PaymentStore(made.charges, caller.tenant).get(payment_id)
    refund, is_new = await made.refunds.get_or_reserve_once(
        caller.tenant,
        key=_hashed(caller.subject, idempotency_key),
        body_hash=_hashed(payment_id, hashlib.sha256(await request.body()).hexdigest()),
        payment_id=payment_id,
        amount=body.minor(charge),
    )
    return _answer(await made.refund_driver.drive(refund, fresh=is_new), charge, replayed=not is_new)


def _hashed(*parts: str) -> str:
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _answer(refund: Refund, charge: Charge, *, replayed: bool) -> Response:
    headers = {"Location": f"/api/v1/payments/{charge.id}/refunds"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    view = RefundView.of(refund, charge.currency).model_dump_json(by_alias=True)
    known = refund.status is not RefundStatus.PROCESSING
    if not known:
        headers["Retry-After"] = "2"  # we look again after that, the first time
    return Response(view, 201 if known else 202, headers=headers, media_type="application/json")
