"""Orders: the nouns and the rules. Standard library and pydantic only."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from order.declines import DeclineCode

GIVE_UP_AFTER = timedelta(hours=24)  # a charge still unknown after this is given up: the order fails, stock returns


class Status(StrEnum):
    PENDING_PAYMENT = "pending_payment"
    CONFIRMED = "confirmed"
    PREPARATION = "preparation"
    READY = "ready"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    PAYMENT_FAILED = "payment_failed"
    CANCELLED = "cancelled"


MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING_PAYMENT: frozenset({Status.CONFIRMED, Status.PAYMENT_FAILED, Status.CANCELLED}),
    Status.CONFIRMED: frozenset({Status.PREPARATION, Status.CANCELLED}),
    Status.PREPARATION: frozenset({Status.READY}),
    Status.READY: frozenset({Status.SHIPPED, Status.DELIVERED}),
    Status.SHIPPED: frozenset({Status.DELIVERED}),
    Status.DELIVERED: frozenset(),
    Status.PAYMENT_FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
STAFF_MOVES = frozenset({Status.PREPARATION, Status.READY, Status.DELIVERED})


def moves_into(target: Status) -> list[Status]:
    """The statuses from which `target` may be reached."""
    return [status for status, targets in MOVES.items() if target in targets]


class PaymentStatus(StrEnum):
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    FAILED = "failed"
    REFUND_PENDING = "refund_pending"
    REFUNDED = "refunded"


CUSTOMER_ID = r"^[A-Za-z0-9_.@:-]+$"
NOTHING_OWED = frozenset({PaymentStatus.REFUNDED, PaymentStatus.DECLINED, PaymentStatus.FAILED})


class Location(StrEnum):
    IN_STORE = "in-store"
    TAKE_AWAY = "take-away"
    DELIVERY = "delivery"


class OutOfStock(Exception):
    """Fewer are left than were asked for."""

    def __init__(self, sku: str) -> None:
        super().__init__(f"Not enough left of {sku}.")
        self.members: dict[str, Any] = {"sku": sku}


class StockOutOfRange(Exception):
    """A stock would be negative, or more than anybody has."""

    def __init__(self, available: int) -> None:
        super().__init__(f"There are {available}: so many can't be taken off, or put on.")
        self.members: dict[str, Any] = {"available": available}


class ProductNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("There is no such product.")


class ProductExists(Exception):
    def __init__(self, sku: str) -> None:
        super().__init__("There is such a product already.")
        self.members: dict[str, Any] = {"sku": sku}


class ConcurrencyConflict(Exception):
    """Somebody else has changed it since its version was read; `current` is the version now."""

    def __init__(self, current: int) -> None:
        super().__init__(f"It has changed meanwhile: its version is {current} now.")
        self.members: dict[str, Any] = {"currentVersion": current}


class OrderNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("There is no such order.")


class OrderOfOtherTenant(Exception):
    def __init__(self) -> None:
        super().__init__("Order belongs to different tenant")


class NotYourOrder(Exception):
    def __init__(self) -> None:
        super().__init__("Somebody else placed this order; the role staff is missing.")


class IllegalMove(Exception):
    def __init__(self, current: str, wanted: str) -> None:
        super().__init__(f"An order in {current} can't become {wanted}.")
        self.members: dict[str, Any] = {"current": current}


class SagaNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("There is no such saga.")


class SagaNotFailed(Exception):
    def __init__(self, status: str) -> None:
        super().__init__("Only a saga whose compensation failed waits for a person.")
        self.members: dict[str, Any] = {"current": status}


class Shape(BaseModel):
    """camelCase outside, immutable, and strict about fields it doesn't know."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["USD"])]
_Amount = Annotated[Decimal, PlainSerializer(str, return_type=str), Field(examples=["9.00"])]


class Money(Shape):
    """`amount` is a decimal string outside and a Decimal inside, never a float."""

    amount: _Amount
    currency: Currency

    def times(self, count: int) -> "Money":
        return Money(amount=self.amount * count, currency=self.currency)


class Customer(Shape):
    id: str
    name: str
    email: str
    phone: str | None = None
    locale: str = "en"


class Item(Shape):
    sku: str
    name: str
    variation: str | None = None
    quantity: int
    unit_price: Money


class Payment(Shape):
    id: str | None = None
    status: PaymentStatus = PaymentStatus.PROCESSING
    transaction_id: str | None = None


class Notice(StrEnum):
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"


class Notified(Shape):
    """What became of the newest message about an order, and when: `failed` once no other channel takes over."""

    status: Notice
    at: datetime


class Order(Shape):
    """An order as everybody sees it. `notified` is null until its customer has been told something."""

    id: str
    tenant_id: str
    owner: Annotated[str, Field(exclude=True)]  # the subject of the token that placed it
    status: Status
    customer: Customer
    items: list[Item]
    total: Money
    payment: Payment
    decline_code: Annotated[DeclineCode | None, Field(exclude=True)] = None
    location: Location
    tracking_number: str | None = None
    notified: Notified | None = None
    created_at: datetime
    version: int

    def confirmed(self, *, payment_id: str, transaction_id: str) -> "Order":
        """This order after its very next move, when that was its confirmation."""
        payment = Payment(id=payment_id, status=PaymentStatus.SUCCEEDED, transaction_id=transaction_id)
        return self.model_copy(update={"status": Status.CONFIRMED, "payment": payment, "version": self.version + 1})

    def quantities(self) -> list[tuple[str, int]]:
        """How much of each sku, in sku order: everybody locks stock rows in the same order."""
        return quantities(self.items)


def quantities(items: Iterable[Item]) -> list[tuple[str, int]]:
    counted: Counter[str] = Counter()
    for item in items:
        counted[item.sku] += item.quantity
    return sorted(counted.items())
