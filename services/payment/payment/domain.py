"""Charges and refunds: the nouns and the rules. Standard library and pydantic only."""

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

POST_AGAIN_FOR = timedelta(hours=12)  # after the first attempt; afterwards an attempt is only looked up
ABSENCE_PROVES_FOR = timedelta(hours=24)  # providers keep keys that long; later a 404 says nothing
API_KEY = "api:"  # begins the key of a refund that was asked for through the API
PROCESSED_WITHIN = timedelta(seconds=30)  # a provider processes a request by then, or never


class Status(StrEnum):
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    FAILED = "failed"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"


MOVES: dict[Status, frozenset[Status]] = {
    Status.PROCESSING: frozenset({Status.SUCCEEDED, Status.DECLINED, Status.FAILED}),
    Status.SUCCEEDED: frozenset({Status.PARTIALLY_REFUNDED, Status.REFUNDED}),
    Status.PARTIALLY_REFUNDED: frozenset({Status.PARTIALLY_REFUNDED, Status.REFUNDED}),
    Status.DECLINED: frozenset(),
    Status.FAILED: frozenset(),
    Status.REFUNDED: frozenset(),
}
CAPTURED = frozenset({Status.SUCCEEDED, Status.PARTIALLY_REFUNDED, Status.REFUNDED})


class RefundStatus(StrEnum):
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


REFUND_MOVES: dict[RefundStatus, frozenset[RefundStatus]] = {
    RefundStatus.PROCESSING: frozenset({RefundStatus.SUCCEEDED, RefundStatus.FAILED}),
    RefundStatus.FAILED: frozenset({RefundStatus.PROCESSING}),  # it is still owed, and asked for again
    RefundStatus.SUCCEEDED: frozenset(),
}


def moves_into(*targets: Status) -> list[Status]:
    """The statuses of a payment from which any of `targets` may be reached."""
    return [status for status, reached in MOVES.items() if reached & set(targets)]


def refund_moves_into(*targets: RefundStatus) -> list[RefundStatus]:
    return [status for status, reached in REFUND_MOVES.items() if reached & set(targets)]


class KeyMismatch(Exception):
    def __init__(self) -> None:
        super().__init__("This key was used for another charge or refund.")


class KeyInFlight(Exception):
    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is under way.")


class PaymentOfOtherTenant(Exception):
    def __init__(self) -> None:
        super().__init__("Payment belongs to different tenant")


class RefundNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("There is no such refund.")


class NotOverdue(Exception):
    """Only what nobody has learned for a day is a person's to decide; before that it would be a guess."""

    def __init__(self) -> None:
        super().__init__("Its outcome is known, or is still being asked for: a person settles it after 24 hours.")


class PaymentNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("There is no such payment.")


class RefundExceedsCaptured(Exception):
    def __init__(self) -> None:
        super().__init__("More than was captured can't be refunded.")


class AmountDoesNotFit(Exception):
    """The currency has no such fraction, or there is no such currency."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.members: dict[str, Any] = {"errors": [{"pointer": pointer, "detail": detail}]}


class Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Approved(Value):
    transaction_id: str


class Declined(Value):
    reason: str


class Refused(Value):
    """The provider definitely did not and will not process it: its own 4xx, or proof that the key is unknown to it."""

    reason: str


class Unknown(Value):
    """It may have happened. Nobody may charge elsewhere, and nobody may call it failed."""

    reason: str


class Absent(Value):
    """The provider doesn't know the key: at this moment, which need not be the last word."""


Final = Approved | Declined | Refused
Outcome = Final | Unknown


class Charge(Value):
    """A charge as its row has it; `amount` in the currency's minor units."""

    id: str
    tenant: str
    tenant_name: str = ""
    key: str
    order_id: str
    amount: int
    currency: str
    method: str
    description: str = ""
    card_token: str | None
    status: Status
    version: int
    provider: str
    others: str
    transaction_id: str | None
    reason: str | None
    given_up: bool
    refunded: int
    attempts: int
    created_at: datetime
    first_posted_at: datetime | None
    posted_until: datetime | None
    processed_at: datetime | None
    traceparent: str

    @property
    def final(self) -> bool:
        return self.status is not Status.PROCESSING


class Refund(Value):
    """`begun` counts how often: each time it is another one to the provider."""

    id: str
    tenant: str
    tenant_name: str = ""
    key: str
    payment_id: str
    amount: int
    asked: int | None = None  # None where `amount` is just that
    begun: int = 1
    status: RefundStatus
    transaction_id: str | None
    reason: str | None
    given_up: Literal[False] = False  # a refund is owed until it is given
    attempts: int
    created_at: datetime
    first_posted_at: datetime | None
    posted_until: datetime | None
    processed_at: datetime | None
    traceparent: str

    @property
    def final(self) -> bool:
        return self.status is not RefundStatus.PROCESSING

    @property
    def provider_key(self) -> str:
        return provider_key(self.key, self.id, self.begun)


class Waits(Value):
    """Less is left than was asked for, and another refund is under way: how much to give, its outcome will tell."""

    behind: Refund


def provider_key(key: str, refund_id: str, begun: int) -> str:
    """What the provider knows a refund by. An API caller's key stays with us: another tenant's could be the same. One
    that is begun again has a key of its own: to its old one a provider gives its old answer, or refuses another amount.
    """
    if begun > 1:
        return f"{refund_id}:{begun}"
    return refund_id if key.startswith(API_KEY) else key


def may_post(attempt: Charge | Refund, *, at: datetime) -> bool:
    return not attempt.given_up and at - (attempt.first_posted_at or attempt.created_at) < POST_AGAIN_FOR


def proves_absence(attempt: Charge | Refund, *, at: datetime) -> bool:
    """Whether a 404 seen `at` this time is the last word: after the processing limit, and while keys are kept."""
    if attempt.first_posted_at is None or attempt.posted_until is None:
        return True
    return attempt.posted_until + PROCESSED_WITHIN < at < attempt.first_posted_at + ABSENCE_PROVES_FOR


def minor_units(amount: Decimal, exponent: int | None) -> int:
    """`Decimal("9.00")` with exponent 2 is 900; raises AmountDoesNotFit rather than round."""
    if exponent is None:
        raise AmountDoesNotFit("/currency", "There is no such currency.")
    scaled = amount.scaleb(exponent)
    if scaled != scaled.to_integral_value() or scaled <= 0:
        raise AmountDoesNotFit("/amount", f"This currency has {exponent} decimal places, and amounts are positive.")
    return int(scaled)


def major_units(amount: int, exponent: int) -> Decimal:
    return Decimal(amount).scaleb(-exponent)
