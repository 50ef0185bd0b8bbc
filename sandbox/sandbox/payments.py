"""Payment provider A: `/api/v1/payment`."""

from collections import Counter
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sandbox.connection import HungUp
from sandbox.ledger import Books, Charge, Refund, Refusal
from sandbox.vendor import answer, fingerprint, plain, read, read_key, refusal

PATH = "/api/v1/payment"

# What each card does, by the contract; the value is the reason of a decline. No token at all is another method than
# a card, and is approved.
_DECLINES = {
    None: None,
    "tok_ok": None,
    "tok_lost_reply": None,
    "tok_flaky": None,
    "tok_declined": "card_declined",
    "tok_insufficient_funds": "insufficient_funds",
}
_FLAKY_FAILURES = 2

_REFUSALS = {
    Refusal.KEY_REUSED: (422, "This key was used with another body."),
    Refusal.UNKNOWN_TRANSACTION: (404, "There is no such transaction."),
    Refusal.NOT_CHARGED: (422, "This transaction was declined; there is nothing to give back."),
    Refusal.EXCEEDS_CHARGE: (422, "Refunds can't exceed what was charged."),
}


def _no_bool(value: object) -> object:
    # A JSON true would otherwise pass as 1.
    if isinstance(value, bool):
        raise ValueError("an amount is a decimal")  # noqa: TRY004  # pydantic reports only a ValueError as invalid
    return value


Amount = Annotated[Decimal, BeforeValidator(_no_bool), Field(gt=0, max_digits=12, decimal_places=3)]


class ChargeBody(BaseModel):
    """What a charge asks for."""

    model_config = ConfigDict(frozen=True)

    order_id: str = Field(alias="orderId", min_length=1, max_length=255)
    amount: Amount
    currency: str = Field(pattern="^[A-Z]{3}$")
    payment_method: str = Field(alias="paymentMethod", min_length=1, max_length=64)
    card_token: str | None = Field(default=None, alias="cardToken", max_length=255)


class RefundBody(BaseModel):
    """How much a refund gives back."""

    model_config = ConfigDict(frozen=True)

    amount: Amount


class ProviderA:
    """The provider's HTTP dialect over its books."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._flaky: Counter[str] = Counter()

    def routes(self) -> APIRouter:
        """Every call the provider offers; `/refunds` stands before the paths with an id in them."""
        router = APIRouter()
        router.add_api_route(PATH, self.charge, methods=["POST"])
        router.add_api_route(PATH, self.find_charge, methods=["GET"])
        router.add_api_route(f"{PATH}/refunds", self.find_refund, methods=["GET"])
        router.add_api_route(PATH + "/{transaction_id}/refunds", self.refund, methods=["POST"])
        return router

    def forget(self) -> None:
        """Empties the books, and flaky cards fail again."""
        self._books.forget()
        self._flaky.clear()

    async def charge(self, request: Request) -> Response:
        """Takes the money once per key; an answer of 200 may say `declined`."""
        body, key = await read(request, ChargeBody), read_key(request)
        if isinstance(body, Response):
            return body
        if isinstance(key, Response):
            return key
        if body.card_token == "tok_flaky" and self._fails_again(key or body.order_id):  # noqa: S105  # a sandbox card
            return refusal(503, "temporarily_unavailable", "Try again.")
        charge = self._books.charge(
            key=key,
            fingerprint=fingerprint(
                body.order_id, plain(body.amount), body.currency, body.payment_method, body.card_token
            ),
            order_id=body.order_id,
            amount=body.amount,
            currency=body.currency,
            declined=_DECLINES.get(body.card_token, "unknown_token"),
        )
        if isinstance(charge, Refusal):
            return _refused(charge)
        if body.card_token == "tok_lost_reply":  # noqa: S105  # a sandbox card
            return HungUp()
        return answer(200, _charge_answer(charge))

    async def find_charge(self, request: Request) -> Response:
        """What became of the charge with `?key=`; 404 when none was decided under it."""
        charge = self._books.charge_under(request.query_params.get("key"))
        if charge is None:
            return refusal(404, "not_found", "Nothing is known under this key.")
        details = {
            "orderId": charge.order_id,
            "amount": f"{charge.amount:f}",
            "currency": charge.currency,
            "refunded": f"{charge.amount * 0 + self._books.refunded(charge.transaction_id):f}",
        }
        return answer(200, _charge_answer(charge) | details)

    async def refund(self, request: Request) -> Response:
        """Gives back a part of a charge, once per key."""
        transaction_id: str = request.path_params["transaction_id"]
        body, key = await read(request, RefundBody), read_key(request)
        if isinstance(body, Response):
            return body
        if isinstance(key, Response):
            return key
        refund = self._books.refund(
            key=key,
            fingerprint=fingerprint(transaction_id, plain(body.amount)),
            transaction_id=transaction_id,
            amount=body.amount,
        )
        return _refused(refund) if isinstance(refund, Refusal) else answer(201, _refund_answer(refund))

    async def find_refund(self, request: Request) -> Response:
        """What became of the refund with `?key=`; 404 when none was made under it."""
        refund = self._books.refund_under(request.query_params.get("key"))
        if refund is None:
            return refusal(404, "not_found", "Nothing is known under this key.")
        return answer(200, _refund_answer(refund))

    def _fails_again(self, attempt: str) -> bool:
        self._flaky[attempt] += 1
        return self._flaky[attempt] <= _FLAKY_FAILURES


def _charge_answer(charge: Charge) -> dict[str, str | None]:
    return {
        "transactionId": charge.transaction_id,
        "status": "declined" if charge.declined else "approved",
        "reason": charge.declined,
    }


def _refund_answer(refund: Refund) -> dict[str, str]:
    return {
        "refundId": refund.refund_id,
        "transactionId": refund.transaction_id,
        "status": "succeeded",
        "amount": f"{refund.amount:f}",
    }


def _refused(why: Refusal) -> Response:
    status, message = _REFUSALS[why]
    return refusal(status, why.value, message)
