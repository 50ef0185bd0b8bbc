"""How an order is answered, and how OpenAPI says it."""

from typing import Any

from fastapi import Response

from chassis.problems import Problem
from order.declines import WORDS, DeclineCode
from order.domain import NOTHING_OWED, Order, Status

JSON = "application/json"
_ASK_AGAIN = {"Retry-After": "2"}  # seconds: payment looks again after that, the first time

_RETRY_AFTER = {"description": "seconds after which it may be known", "schema": {"type": "integer"}}
_PLACED_HEADERS: dict[str, Any] = {
    "Location": {"description": "The order's path", "required": True, "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true` when the key's order stood there already",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
PLACED: dict[int | str, dict[str, Any]] = {
    201: {"description": "Confirmed", "headers": _PLACED_HEADERS},
    202: {
        "model": Order,
        "description": "The outcome isn't known yet",
        "headers": _PLACED_HEADERS | {"Retry-After": _RETRY_AFTER},
    },
}
OWED: dict[int | str, dict[str, Any]] = {
    202: {"model": Order, "description": "Money is still to be settled", "headers": {"Retry-After": _RETRY_AFTER}},
}


def shown(order: Order, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(order.model_dump_json(by_alias=True), status, headers=headers, media_type=JSON)


def cancelled(order: Order) -> Response:
    """200 once nothing is owed."""
    return shown(order) if order.payment.status in NOTHING_OWED else shown(order, 202, _ASK_AGAIN)


def placed(order: Order, *, replayed: bool = False) -> Response:
    """What became of the order until now, by its status: it is no success to whoever asks again for one that ended."""
    headers = {"Location": f"/api/v1/orders/{order.id}"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    match order.status:
        case Status.PENDING_PAYMENT:
            return shown(order, 202, headers | _ASK_AGAIN)
        case Status.PAYMENT_FAILED:
            raise _payment_declined(order, headers)
        case Status.CANCELLED:
            raise Problem(
                status=409,
                error_type="order-cancelled",
                title="The order was cancelled",
                detail="It was placed, and cancelled since. Another order needs another Idempotency-Key.",
                headers=headers,
                members={"orderId": order.id},
            )
        case _:
            return shown(order, 201, headers)


def _payment_declined(order: Order, headers: dict[str, str]) -> Problem:
    code = order.decline_code or DeclineCode.CARD_DECLINED  # one that failed before codes were kept
    words = WORDS[code]
    return Problem(
        status=402,
        error_type="payment-declined",
        title="The payment was declined",
        detail=f"{words[0].upper()}{words[1:]}. Nothing was charged and nothing is reserved.",
        headers=headers,
        members={"orderId": order.id, "failedStep": "charge", "declineCode": code},
    )
