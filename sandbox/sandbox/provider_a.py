"""How payment provider A speaks: `/api/v1/payment`, open to anybody."""

from decimal import Decimal

from fastapi import Request, Response
from pydantic import Field

from sandbox.ledger import Charge, Refund
from sandbox.money import Priced
from sandbox.payments import Asked
from sandbox.vendor import answer, fingerprint, plain, read, refusal


class ChargeBody(Priced):
    """What a charge asks for."""

    order_id: str = Field(alias="orderId", min_length=1, max_length=255)
    payment_method: str = Field(alias="paymentMethod", min_length=1, max_length=64)
    card_token: str | None = Field(default=None, alias="cardToken", max_length=255)


class DialectA:
    """Provider A's bodies and errors."""

    path = "/api/v1/payment"

    def turn_away(self, request: Request) -> Response | None:  # noqa: ARG002  # there is nothing to show
        """Nobody."""
        return None

    def refuse(self, status: int, code: str, message: str, *, param: str | None = None) -> Response:
        """The shape that this sandbox's vendors share."""
        return refusal(status, code, message, param=param)

    async def read_charge(self, request: Request) -> Asked | Response:
        """`{orderId, amount, currency, paymentMethod, cardToken?}`."""
        body = await read(request, ChargeBody)
        if isinstance(body, Response):
            return body
        return Asked(
            order_id=body.order_id,
            amount=body.amount,
            currency=body.currency,
            card_token=body.card_token,
            fingerprint=fingerprint(
                body.order_id, plain(body.amount), body.currency, body.payment_method, body.card_token
            ),
        )

    def show_charge(self, charge: Charge, refunded: Decimal | None = None) -> Response:
        """`{transactionId, status, reason}`, and for a look-up what was asked and what was given back."""
        shown = {
            "transactionId": charge.transaction_id,
            "status": "declined" if charge.declined else "approved",
            "reason": charge.declined,
        }
        if refunded is not None:
            shown |= {
                "orderId": charge.order_id,
                "amount": charge.amount,
                "currency": charge.currency,
                # With as many places as the charge has.
                "refunded": charge.amount * 0 + refunded,
            }
        return answer(200, shown)

    def show_refund(self, refund: Refund, status: int) -> Response:
        """`{refundId, transactionId, status, amount}`."""
        shown = {
            "refundId": refund.refund_id,
            "transactionId": refund.transaction_id,
            "status": "succeeded",
            "amount": refund.amount,
        }
        return answer(status, shown)
