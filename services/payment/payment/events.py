"""Facts that the payment service announces; the source of contracts/events. A changed meaning is a new type."""

from typing import Any, ClassVar

from pydantic import ConfigDict

from chassis.events import Event, Wire
from payment.currencies import in_major_units
from payment.domain import Charge, Refund

_EXAMPLE: dict[str, Any] = {
    "version": 2,
    "paymentId": "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0b01",
    "orderId": "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01",
    "amount": {"amount": "9.00", "currency": "USD"},
    "provider": "a",
}

_EXAMPLE_REFUND: dict[str, Any] = {
    "version": 3,
    "refundId": "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0c01",
    "refunded": {"amount": "4.50", "currency": "USD"},
    "status": "partially_refunded",
}


class EventMoney(Wire):
    """`amount` is a decimal string, never a float."""

    amount: str
    currency: str


class PaymentEvent(Event):
    """`amount` is the payment's own."""

    topic: ClassVar[str] = "payments"

    payment_id: str
    order_id: str
    amount: EventMoney
    provider: str


class PaymentCaptured(PaymentEvent):
    type: ClassVar[str] = "payment.captured.v1"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE | {"transactionId": "txn_1"}]})

    transaction_id: str


class PaymentDeclined(PaymentEvent):
    """The provider's final no, or its refusal to process (`status` is declined or failed)."""

    type: ClassVar[str] = "payment.declined.v1"
    model_config = ConfigDict(
        json_schema_extra={"examples": [_EXAMPLE | {"status": "declined", "reason": "insufficient_funds"}]}
    )

    status: str
    reason: str


class PaymentRefunded(PaymentEvent):
    """One refund came through; `status` is the payment's after it, partially_refunded or refunded."""

    type: ClassVar[str] = "payment.refunded.v1"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE | _EXAMPLE_REFUND]})

    refund_id: str
    refunded: EventMoney
    status: str


EVENTS: tuple[type[Event], ...] = (PaymentCaptured, PaymentDeclined, PaymentRefunded)


def settled(charge: Charge) -> PaymentEvent:
    """What a charge that has just become final is to others."""
    if charge.transaction_id is not None:
        return PaymentCaptured(**_facts(charge), transaction_id=charge.transaction_id)
    return PaymentDeclined(**_facts(charge), status=charge.status, reason=charge.reason or charge.status)


def refunded(charge: Charge, refund: Refund) -> PaymentEvent:
    return PaymentRefunded(
        **_facts(charge), refund_id=refund.id, refunded=_money(refund.amount, charge.currency), status=charge.status
    )


def _facts(charge: Charge) -> dict[str, Any]:
    return {
        "version": charge.version,
        "payment_id": charge.id,
        "order_id": charge.order_id,
        "amount": _money(charge.amount, charge.currency),
        "provider": charge.provider,
    }


def _money(amount: int, currency: str) -> EventMoney:
    return EventMoney(amount=str(in_major_units(amount, currency)), currency=currency)
