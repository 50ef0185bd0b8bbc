"""Facts that the order service announces; the source of contracts/events. A changed meaning is a new type."""

from typing import Any, ClassVar

from pydantic import ConfigDict

from chassis.events import Event, Wire

_EXAMPLE_ORDER: dict[str, Any] = {
    "version": 2,
    "orderId": "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01",
    "ownerId": "u-1",
    "status": "confirmed",
    "customer": {
        "id": "c-1",
        "name": "Ada",
        "email": "ada@example.com",
        "phone": "+12025550123",
        "locale": "en",
    },
    "items": [
        {
            "sku": "latte",
            "name": "Latte",
            "variation": "vanilla",
            "quantity": 2,
            "unitPrice": {"amount": "4.50", "currency": "USD"},
        }
    ],
    "total": {"amount": "9.00", "currency": "USD"},
    "location": "take-away",
}

_EXAMPLE_DECLINE = {"reason": "there is not enough money on the card", "declineCode": "insufficient_funds"}


class EventMoney(Wire):
    """`amount` is a decimal string, never a float."""

    amount: str
    currency: str


class EventCustomer(Wire):
    id: str
    name: str
    email: str
    phone: str | None = None
    locale: str = "en"


class EventItem(Wire):
    sku: str
    name: str
    variation: str | None = None
    quantity: int
    unit_price: EventMoney


class OrderEvent(Event):
    """Every event of an order carries enough to tell the customer, so that no consumer need ask back."""

    topic: ClassVar[str] = "orders"

    order_id: str
    owner_id: str | None = None  # who placed it, and may see what becomes of it
    status: str
    customer: EventCustomer
    items: list[EventItem]
    total: EventMoney
    location: str


class OrderCreated(OrderEvent):
    type: ClassVar[str] = "order.created.v1"
    model_config = ConfigDict(
        json_schema_extra={"examples": [_EXAMPLE_ORDER | {"version": 1, "status": "pending_payment"}]}
    )


class OrderConfirmed(OrderEvent):
    type: ClassVar[str] = "order.confirmed.v1"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_ORDER]})


class OrderPaymentFailed(OrderEvent):
    """`reason` is fit for the customer's eyes; `declineCode` says the same to programs."""

    type: ClassVar[str] = "order.payment-failed.v1"
    model_config = ConfigDict(
        json_schema_extra={"examples": [_EXAMPLE_ORDER | {"status": "payment_failed"} | _EXAMPLE_DECLINE]}
    )

    reason: str
    decline_code: str | None = None


class OrderStatusChanged(OrderEvent):
    """The order moved to `status`: preparation, ready or delivered."""

    type: ClassVar[str] = "order.status-changed.v1"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_ORDER | {"version": 4, "status": "ready"}]})


class OrderShipped(OrderEvent):
    type: ClassVar[str] = "order.shipped.v1"
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                _EXAMPLE_ORDER
                | {"version": 5, "status": "shipped", "location": "delivery", "trackingNumber": "1Z999AA10123456784"}
            ]
        }
    )

    tracking_number: str


class OrderCancelled(OrderEvent):
    type: ClassVar[str] = "order.cancelled.v1"
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_ORDER | {"version": 3, "status": "cancelled"}]})


EVENTS = (OrderCreated, OrderConfirmed, OrderPaymentFailed, OrderStatusChanged, OrderShipped, OrderCancelled)
