"""What the routes' bodies and answers have in common."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from chassis.cards import NoCards
from chassis.wire import RequestBody, Wire
from payment.currencies import in_major_units
from payment.domain import Charge, Refund, RefundStatus, Status

PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
# A decimal string in major units, digits 0 to 9 only.
Amount = Annotated[str, Field(pattern=r"^[0-9]{1,14}(\.[0-9]{1,4})?$", examples=["9.00"])]
# A provider's own id of a charge or refund.
Reference = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]


class Money(Wire):
    """`amount` is a decimal string, never a float."""

    amount: Amount
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["USD"])]


class Body(RequestBody, NoCards):
    """What a request says."""


class PaymentView(Wire):
    """`refunded` is what has gone back or is reserved to; `version` grows with every move."""

    id: str
    tenant_id: str
    order_id: str
    status: Status
    amount: Money
    refunded: Money
    provider: str
    description: str
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
            description=charge.description,
            transaction_id=charge.transaction_id,
            reason=charge.reason,
            created_at=charge.created_at,
            processed_at=charge.processed_at,
            version=charge.version,
        )


class RefundView(Wire):
    id: str
    payment_id: str
    status: RefundStatus
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
    return Money(amount=str(in_major_units(amount, currency)), currency=currency)
