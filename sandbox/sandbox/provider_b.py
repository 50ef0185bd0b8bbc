"""How payment provider B speaks: `/api/payments` behind a bearer key."""

import logging
from decimal import Decimal

from fastapi import Request, Response
from pydantic import Field

from sandbox.ledger import Charge, Refund
from sandbox.money import Priced
from sandbox.payments import Asked
from sandbox.records import stamp
from sandbox.vendor import answer, fingerprint, knows_key, plain, read

log = logging.getLogger(__name__)


class ChargeBody(Priced):
    """What a charge asks for."""

    card_token: str | None = Field(default=None, alias="cardToken", max_length=255)
    description: str | None = Field(default=None, max_length=1000)


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
            amount=body.amount,
            currency=body.currency,
            card_token=body.card_token,
            fingerprint=fingerprint(plain(body.amount), body.currency, body.card_token, body.description),
        )

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


def _order_in(description: str | None) -> str | None:
    """B has no field for the order: merchants write "Order <id>"."""
    return (description or "").partition("Order ")[2].strip() or None
