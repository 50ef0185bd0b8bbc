"""Provider A: `POST /api/v1/payment`, keyed by header; look-ups go through an endpoint of their own (no breaker)."""

from typing import Any

from chassis.sidecar import Sidecar
from payment.currencies import in_major_units
from payment.domain import Absent, Charge, Outcome, Refund, Unknown
from payment.providers import wire

_ENDPOINT = "payment-a"
_LOOKUP = "payment-a-lookup"
_PATH = "api/v1/payment"


class ProviderA:
    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    async def charge(self, charge: Charge) -> Outcome:
        body = {
            "orderId": charge.order_id,
            "amount": in_major_units(charge.amount, charge.currency),
            "currency": charge.currency,
            "paymentMethod": charge.method,
            "cardToken": charge.card_token,
        }
        return await wire.post(
            self._sidecar, _ENDPOINT, _PATH, body=body, headers=_keyed(charge.key), read=_read_charge
        )

    async def look_up_charge(self, charge: Charge) -> Outcome | Absent:
        return await wire.look_up(self._sidecar, _LOOKUP, _PATH, charge.key, _read_charge)

    async def refund(self, refund: Refund, of: Charge) -> Outcome:
        body = {"amount": in_major_units(refund.amount, of.currency)}
        path = wire.refunds_path(_PATH, of)
        return await wire.post(
            self._sidecar,
            _ENDPOINT,
            path,
            body=body,
            headers=_keyed(refund.provider_key),
            read=_read_refund,
        )

    async def look_up_refund(self, refund: Refund) -> Outcome | Absent:
        return await wire.look_up(self._sidecar, _LOOKUP, f"{_PATH}/refunds", refund.provider_key, _read_refund)


def _keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def _read_charge(data: Any) -> Outcome:
    match data:
        case {"status": "approved", "transactionId": str(transaction_id)}:
            return wire.approved(transaction_id)
        case {"status": "declined"}:
            return wire.declined(str(data.get("reason") or ""))
        case _:
            return Unknown(reason="unreadable answer")


def _read_refund(data: Any) -> Outcome:
    match data:
        case {"status": "succeeded", "refundId": str(refund_id)}:
            return wire.approved(refund_id)
        case _:
            return Unknown(reason="unreadable answer")
