"""What the routes' bodies and answers have in common."""

import re
from datetime import datetime
from typing import Annotated, Any, cast

from pydantic import BaseModel, Field, StringConstraints, model_validator

from chassis.events import Wire
from chassis.problems import Invalid
from payment.currencies import in_major_units
from payment.domain import Charge, Refund

PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
# A decimal string in major units, digits 0 to 9 only.
Amount = Annotated[str, Field(pattern=r"^[0-9]{1,14}(\.[0-9]{1,4})?$", examples=["9.00"])]
# A provider's own id of a charge or refund.
Reference = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]

# 13 to 19 digits, perhaps in groups. Card numbers begin with 2 to 6 (ISO/IEC 7812); after a + it is a telephone's.
_CARD = re.compile(r"(?<![\d+])[2-6](?:[ -]?\d){12,18}(?!\d)")
_UUID = re.compile(r"(?<![\da-f])[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}(?![\da-f])", re.IGNORECASE)


class Money(Wire):
    """`amount` is a decimal string, never a float."""

    amount: Amount
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["USD"])]


class NoCards(Wire):
    """A body in which nothing may look like a card number, wherever it stands and whatever it is called."""

    @model_validator(mode="before")
    @classmethod
    def _no_card_number(cls, body: Any) -> Any:
        if (pointer := _card_in(body, "")) is not None:
            raise Invalid(pointer, "This looks like a card number. Send a token of your provider's instead.")
        return body


def _card_in(value: Any, at: str) -> str | None:
    """A JSON pointer to the first text or number that looks like a card, None where there is none."""
    if isinstance(value, BaseModel):
        return None
    if isinstance(value, dict):
        if any(map(_holds_card, cast("dict[str, Any]", value))):
            return at  # a pointer to it would tell it
        inner = ((f"{at}/{key}", one) for key, one in cast("dict[str, Any]", value).items())
    elif isinstance(value, list):
        inner = ((f"{at}/{index}", one) for index, one in enumerate(cast("list[Any]", value)))
    else:
        return at if _holds_card(value) else None
    return next((found for pointer, one in inner if (found := _card_in(one, pointer)) is not None), None)


def _holds_card(value: Any) -> bool:
    """Of numbers only whole ones; and no part of a UUID is a card number, however its digits fall."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int) or isinstance(value, bool):
        return False
    return any(map(_is_card, _CARD.findall(_UUID.sub("u", str(value)))))


def _is_card(text: str) -> bool:
    """Luhn's check digit, which every card number ends in."""
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [digit if index % 2 == 0 else sum(divmod(2 * digit, 10)) for index, digit in enumerate(digits[::-1])]
    return sum(doubled) % 10 == 0


class PaymentView(Wire):
    """`refunded` is what has gone back or is reserved to; `version` grows with every move."""

    id: str
    tenant_id: str
    order_id: str
    status: str
    amount: Money
    refunded: Money
    provider: str
    transaction_id: str | None
    reason: str | None
    created_at: datetime
    processed_at: datetime | None
    version: int

    @classmethod
    def of(cls, charge: Charge) -> "PaymentView":
        return cls(
            id=charge.id,
            tenant_id=charge.tenant,
            order_id=charge.order_id,
            status=charge.status,
            amount=money(charge.amount, charge.currency),
            refunded=money(charge.refunded, charge.currency),
            provider=charge.provider,
            transaction_id=charge.transaction_id,
            reason=charge.reason,
            created_at=charge.created_at,
            processed_at=charge.processed_at,
            version=charge.version,
        )


class RefundView(Wire):
    id: str
    payment_id: str
    status: str
    amount: Money
    transaction_id: str | None
    reason: str | None
    created_at: datetime
    processed_at: datetime | None

    @classmethod
    def of(cls, refund: Refund, currency: str) -> "RefundView":
        return cls(
            id=refund.id,
            payment_id=refund.payment_id,
            status=refund.status,
            amount=money(refund.amount, currency),
            transaction_id=refund.transaction_id,
            reason=refund.reason,
            created_at=refund.created_at,
            processed_at=refund.processed_at,
        )


def money(amount: int, currency: str) -> Money:
    return Money(amount=in_major_units(amount, currency), currency=currency)
