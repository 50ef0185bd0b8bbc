"""Orders: the nouns and the rules. Standard library and pydantic only."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

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


class NotAcceptable(Exception):
    """A well-formed order that names something which doesn't exist; `pointer` says where."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.members: dict[str, Any] = {"errors": [{"pointer": pointer, "detail": detail}]}


class Shape(BaseModel):
    """camelCase outside, immutable, and strict about fields it doesn't know."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["USD"])]
_Amount = Annotated[Decimal, PlainSerializer(str, return_type=str), Field(examples=["9.00"])]
# Text that people type: anything but control characters, which could forge a header or a log line.
_Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
_EMAIL = r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+\.[^@\s\x00-\x1f\x7f]+$"


class Money(Shape):
    """`amount` is a decimal string outside and a Decimal inside, never a float."""

    amount: _Amount
    currency: Currency

    def times(self, count: int) -> "Money":
        return Money(amount=self.amount * count, currency=self.currency)


class Customer(Shape):
    id: Annotated[str, Field(min_length=1, max_length=64, pattern=CUSTOMER_ID, examples=["c-1"])]
    name: Annotated[_Text, Field(examples=["Ada"])]
    email: Annotated[str, Field(max_length=254, pattern=_EMAIL, examples=["ada@example.com"])]
    phone: Annotated[str, Field(pattern=r"^\+[1-9]\d{6,14}$", examples=["+12025550123"])] | None = None
    locale: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*$", max_length=35)] = "en"


class ItemRequest(Shape):
    sku: Annotated[str, Field(min_length=1, max_length=64, examples=["latte"])]
    variation: Annotated[str, Field(max_length=64, examples=["vanilla"])] | None = None
    quantity: Annotated[int, Field(ge=1, le=1000, examples=[2])]


class PaymentMethod(Shape):
    """`token` stands for a card at the payment provider; a card number is never accepted."""

    method: Literal["credit_card", "debit_card"] = "credit_card"
    token: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{2,127}$", examples=["tok_ok"])]


class OrderRequest(Shape):
    customer: Customer
    items: Annotated[list[ItemRequest], Field(min_length=1, max_length=50)]
    location: Location = Location.TAKE_AWAY
    currency: Currency
    payment: PaymentMethod


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


class Order(Shape):
    """An order as everybody sees it."""

    id: str
    tenant_id: str
    owner: Annotated[str, Field(exclude=True)]  # the subject of the token that placed it
    status: Status
    customer: Customer
    items: list[Item]
    total: Money
    payment: Payment
    location: Location
    tracking_number: str | None = None
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


class Variation(Shape):
    name: str
    price: Money


class Product(Shape):
    sku: str
    name: str
    featured: bool = False
    variations: list[Variation]


class StockedProduct(Product):
    """A catalog entry with its first stock, which every tenant starts from."""

    stock: Annotated[int, Field(ge=0)]


class Catalog:
    """What can be ordered. The first variation is the one meant when none is named."""

    def __init__(self, products: Iterable[StockedProduct]) -> None:
        self._products = {product.sku: product for product in products}

    def products(self) -> list[StockedProduct]:
        return list(self._products.values())

    def first_stock(self, sku: str) -> int:
        return self._products[sku].stock

    def price(self, request: OrderRequest) -> tuple[list[Item], Money]:
        """The order's items at our prices, and their total. Raises NotAcceptable, naming the field."""
        items = [self._item(index, wanted, request.currency) for index, wanted in enumerate(request.items)]
        total = sum((item.unit_price.times(item.quantity).amount for item in items), Decimal(0))
        return items, Money(amount=total, currency=request.currency)

    def _item(self, index: int, wanted: ItemRequest, currency: str) -> Item:
        if (product := self._products.get(wanted.sku)) is None:
            raise NotAcceptable(f"/items/{index}/sku", "There is no such product.")
        name = wanted.variation or product.variations[0].name
        variation = next((one for one in product.variations if one.name == name), None)
        if variation is None:
            raise NotAcceptable(f"/items/{index}/variation", "The product has no such variation.")
        if variation.price.currency != currency:
            raise NotAcceptable("/currency", f"This catalog is priced in {variation.price.currency}.")
        return Item(
            sku=product.sku, name=product.name, variation=name, quantity=wanted.quantity, unit_price=variation.price
        )
