"""What every payment provider does, cards and keys alike; how it is asked and how it answers is its dialect's."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from fastapi import APIRouter, Request, Response

from sandbox.connection import HungUp
from sandbox.ledger import Books, Charge, Refund, Refusal
from sandbox.money import RefundBody, exponent_of, fits
from sandbox.vendor import fingerprint, plain, read, read_key

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

# Tells the merchant of what was decided; returns when the provider may answer.
Announce = Callable[[Charge | Refund], Awaitable[None]]
_Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A charge as any dialect asks for it. The amount is in major units; the fingerprint is of the whole body."""

    order_id: str | None
    amount: Decimal
    currency: str
    card_token: str | None
    fingerprint: str


class Dialect(Protocol):
    """How one provider speaks: its path, its bodies, its errors. A Response in the place of a body refuses it."""

    @property
    def path(self) -> str: ...

    def turn_away(self, request: Request) -> Response | None:
        """The refusal of a caller who may not come in."""
        ...

    def refuse(self, status: int, code: str, message: str, *, param: str | None = None) -> Response: ...

    async def read_charge(self, request: Request) -> Asked | Response: ...

    def show_charge(self, charge: Charge, refunded: Decimal | None = None) -> Response:
        """`refunded` is told to those who look up."""
        ...

    def show_refund(self, refund: Refund, status: int) -> Response: ...


class Provider:
    """A provider's HTTP API in its dialect over its books."""

    def __init__(self, dialect: Dialect, *, books: Books, announce: Announce) -> None:
        self._dialect = dialect
        self._books = books
        self._announce = announce
        self._flaky: Counter[str] = Counter()

    def routes(self) -> APIRouter:
        """Every call the provider offers; `/refunds` stands before the paths with an id in them."""
        router, path = APIRouter(), self._dialect.path
        router.add_api_route(path, self._guarded(self.charge), methods=["POST"])
        router.add_api_route(path, self._guarded(self.find_charge), methods=["GET"])
        router.add_api_route(f"{path}/refunds", self._guarded(self.find_refund), methods=["GET"])
        router.add_api_route(path + "/{transaction_id}/refunds", self._guarded(self.refund), methods=["POST"])
        return router

    def forget(self) -> None:
        """Empties the books, and flaky cards fail again."""
        self._books.forget()
        self._flaky.clear()

    async def charge(self, request: Request) -> Response:
        """Takes the money once per key; an answer of 200 may say that it was declined."""
        asked, key = await self._dialect.read_charge(request), read_key(request, self._dialect.refuse)
        if isinstance(asked, Response):
            return asked
        if isinstance(key, Response):
            return key
        if asked.card_token == "tok_flaky" and self._fails_again(key or asked.fingerprint):  # noqa: S105  # a sandbox card
            return self._dialect.refuse(503, "temporarily_unavailable", "Try again.")
        known = self._books.charge_under(key)
        charge = self._books.charge(
            key=key,
            fingerprint=asked.fingerprint,
            order_id=asked.order_id,
            amount=asked.amount,
            currency=asked.currency,
            declined=_DECLINES.get(asked.card_token, "unknown_token"),
        )
        if isinstance(charge, Refusal):
            return self._refused(charge)
        if charge is not known:
            await self._announce(charge)
        if asked.card_token == "tok_lost_reply":  # noqa: S105  # a sandbox card
            return HungUp()
        return self._dialect.show_charge(charge)

    async def find_charge(self, request: Request) -> Response:
        """What became of the charge with `?key=`; 404 when none was decided under it."""
        charge = self._books.charge_under(request.query_params.get("key"))
        if charge is None:
            return self._unknown_key()
        return self._dialect.show_charge(charge, self._books.refunded(charge.transaction_id))

    async def refund(self, request: Request) -> Response:
        """Gives back a part of a charge, once per key."""
        transaction_id: str = request.path_params["transaction_id"]
        amount = await self._read_refund(request, self._books.charge_of(transaction_id))
        key = read_key(request, self._dialect.refuse)
        if isinstance(amount, Response):
            return amount
        if isinstance(key, Response):
            return key
        known = self._books.refund_under(key)
        refund = self._books.refund(
            key=key,
            fingerprint=fingerprint(transaction_id, plain(amount)),
            transaction_id=transaction_id,
            amount=amount,
        )
        if isinstance(refund, Refusal):
            return self._refused(refund)
        if refund is not known:
            await self._announce(refund)
        return self._dialect.show_refund(refund, 201)

    async def find_refund(self, request: Request) -> Response:
        """What became of the refund with `?key=`; 404 when none was made under it."""
        refund = self._books.refund_under(request.query_params.get("key"))
        return self._unknown_key() if refund is None else self._dialect.show_refund(refund, 200)

    async def _read_refund(self, request: Request, of: Charge | None) -> Decimal | Response:
        """`{amount}`, as much as to give back."""
        body = await read(request, RefundBody, self._dialect.refuse)
        if isinstance(body, Response):
            return body
        if of is not None and not fits(body.amount, of.currency):
            wrong = f"an amount of {of.currency} has {exponent_of(of.currency)} decimal places"
            return self._dialect.refuse(422, "invalid_request", wrong, param="amount")
        return body.amount

    def _guarded(self, handler: _Handler) -> _Handler:
        async def handle(request: Request) -> Response:
            return self._dialect.turn_away(request) or await handler(request)

        return handle

    def _fails_again(self, attempt: str) -> bool:
        self._flaky[attempt] += 1
        return self._flaky[attempt] <= _FLAKY_FAILURES

    def _unknown_key(self) -> Response:
        return self._dialect.refuse(404, "not_found", "Nothing is known under this key.")

    def _refused(self, why: Refusal) -> Response:
        status, message = _REFUSALS[why]
        return self._dialect.refuse(status, why.value, message)
