"""How payment provider B speaks: `/api/payments` behind a bearer key, amounts as integers in minor units."""

import logging
from decimal import Decimal
from functools import cache
from typing import Annotated

from fastapi import Request, Response
from iso4217 import Currency
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sandbox.ledger import Charge, Refund
from sandbox.payments import Asked
from sandbox.records import stamp
from sandbox.vendor import answer, fingerprint, knows_key, read

log = logging.getLogger(__name__)


@cache
def exponent_of(currency: str) -> int | None:
    """Decimal places by ISO 4217: JPY 0, USD 2, KWD 3. None where there is no such currency, or it has none."""
    try:
        return Currency(currency).exponent
    except ValueError:
        return None


def _with_exponent(currency: str) -> str:
    if exponent_of(currency) is None:
        raise ValueError("not a currency with minor units")
    return currency


Amount = Annotated[int, Field(strict=True, gt=0, lt=10**12)]


class ChargeBody(BaseModel):
    """What a charge asks for."""

    model_config = ConfigDict(frozen=True)

    amount: Amount
    currency: Annotated[str, AfterValidator(_with_exponent)]
    card_token: str | None = Field(default=None, alias="cardToken", max_length=255)
    description: str | None = Field(default=None, max_length=1000)


class RefundBody(BaseModel):
    """How much a refund gives back."""

    model_config = ConfigDict(frozen=True)

    amount: Amount


class DialectB:
    """Provider B's bodies and errors. Without a key of its own it lets in whoever shows one."""

    path = "/api/payments"

    def __init__(self, *, key: str) -> None:
        self._key = key
        if not key:
            log.warning("payment-b.any-key", extra={"keys": {"set": "SANDBOX_PAYMENT_B_KEY"}})

    def turn_away(self, request: Request) -> Response | None:
        """Whoever shows no key, or another one."""
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and knows_key(shown.strip(), self._key):
            return None
        refused = self.refuse(401, "unauthorized", "A valid key is required.")
        refused.headers["www-authenticate"] = "Bearer"
        return refused

    def refuse(self, status: int, code: str, message: str, *, param: str | None = None) -> Response:
        """No word of `success`: nothing was decided."""
        return answer(status, {"errorCode": code, "errorMessage": message, "field": param})

    async def read_charge(self, request: Request) -> Asked | Response:
        """`{amount, currency, cardToken?, description?}`."""
        body = await read(request, ChargeBody, self.refuse)
        if isinstance(body, Response):
            return body
        return Asked(
            order_id=_order_in(body.description),
            amount=_in_major_units(body.amount, body.currency),
            currency=body.currency,
            card_token=body.card_token,
            fingerprint=fingerprint(str(body.amount), body.currency, body.card_token, body.description),
        )

    async def read_refund(self, request: Request, of: Charge | None) -> Decimal | Response:
        """`{amount}`, in the minor units of the charge."""
        body = await read(request, RefundBody, self.refuse)
        if isinstance(body, Response):
            return body
        return _in_major_units(body.amount, of.currency if of else "")

    def show_charge(self, charge: Charge, refunded: Decimal | None = None) -> Response:  # noqa: ARG002  # B doesn't tell
        """`{success, transactionId, errorMessage, processedAt}`."""
        shown = {
            "success": charge.declined is None,
            "transactionId": None if charge.declined else charge.transaction_id,
            "errorMessage": charge.declined,
            "processedAt": stamp(charge.at),
        }
        return answer(200, shown)

    def show_refund(self, refund: Refund, status: int) -> Response:
        """`{success, refundId, errorMessage, processedAt}`."""
        shown = {
            "success": True,
            "refundId": refund.refund_id,
            "errorMessage": None,
            "processedAt": stamp(refund.at),
        }
        return answer(status, shown)


def _in_major_units(amount: int, currency: str) -> Decimal:
    return Decimal(amount).scaleb(-(exponent_of(currency) or 0))


def _order_in(description: str | None) -> str | None:
    """B has no field for the order: merchants write "Order <id>"."""
    return (description or "").partition("Order ")[2].strip() or None
