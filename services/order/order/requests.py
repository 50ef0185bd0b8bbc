"""What callers ask for."""

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from chassis.addresses import EmailAddress
from chassis.cards import CardToken, NoCards
from chassis.language_tags import LONGEST, without_extensions
from chassis.wire import RequestBody, example
from order.domain import CUSTOMER_ID, STAFF_MOVES, Currency, Customer, Location

# Anything but control characters and line breaks, which could forge a header or a log line.
LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
# Letters and symbols, by their category, that nobody sees all the same.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def visible(text: str) -> str:
    if not any(unicodedata.category(char)[0] in "LNPS" and char not in _BLANK for char in text):
        raise ValueError("nobody could read it")
    return text


def _language_tag(text: str) -> str:
    if not (tag := without_extensions(text)):
        raise ValueError("it is no language tag such as en or pt-BR")
    return tag


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=LINE),
    AfterValidator(visible),
    Field(examples=["Ada"]),
]
Locale = Annotated[str, StringConstraints(max_length=LONGEST), AfterValidator(_language_tag), Field(examples=["en"])]


class CustomerRequest(Customer, RequestBody):
    """Whom the order is for. Of `locale` the extensions are left out: en-US-u-mu-celsius is en-US."""

    id: Annotated[str, Field(min_length=1, max_length=64, pattern=CUSTOMER_ID, examples=["c-1"])]
    name: Name
    email: EmailAddress
    phone: Annotated[str, Field(pattern=r"^\+[1-9]\d{6,14}$", examples=["+12025550123"])] | None = None
    locale: Locale = "en"


class ItemRequest(RequestBody):
    sku: Annotated[str, Field(min_length=1, max_length=64, examples=["latte"])]
    variation: Annotated[str, Field(max_length=64, examples=["vanilla"])] | None = None
    quantity: Annotated[int, Field(strict=True, ge=1, le=1000, examples=[2])]


class PaymentMethod(RequestBody):
    """`token` stands for a card at the payment provider; a card number is never accepted."""

    method: Literal["credit_card", "debit_card"] = "credit_card"
    token: CardToken


class OrderRequest(
    RequestBody,
    NoCards,
    json_schema_extra=example(
        customer={"id": "c-1", "name": "Ada", "email": "ada@example.org", "locale": "en"},
        items=[{"sku": "latte", "quantity": 1}],
        payment={"token": "tok_ok"},
    ),
):
    customer: CustomerRequest
    items: Annotated[list[ItemRequest], Field(min_length=1, max_length=50)]
    location: Location = Location.TAKE_AWAY
    currency: Currency = "USD"
    payment: PaymentMethod


class StatusChange(RequestBody, json_schema_extra=example(status="ready")):
    """Any other status, be it one of an order's life or not, is a move that staff can't make: 409."""

    status: Annotated[str, Field(json_schema_extra={"enum": [*sorted(STAFF_MOVES)]})]


class Shipment(RequestBody, json_schema_extra=example(trackingNumber="1Z999AA10123456784")):
    tracking_number: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9 -]+$")]
