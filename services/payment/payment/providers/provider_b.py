"""Provider B: `POST /api/payments` with a bearer key."""

from collections.abc import Mapping
from typing import Any

from chassis.sidecar import Sidecar
from payment.currencies import in_major_units
from payment.domain import Absent, Charge, Outcome, Refund, Unknown
from payment.providers import wire

KEY = "payment-b-key"
_ENDPOINT = "payment-b"
_LOOKUP = "payment-b-lookup"
_PATH = "api/payments"


class ProviderB:
    """`secrets` holds the bearer key by the time of the first call."""

    def __init__(self, sidecar: Sidecar, secrets: Mapping[str, str]) -> None:
        self._sidecar = sidecar
        self._secrets = secrets

    async def charge(self, charge: Charge) -> Outcome:
        body = {
            "amount": in_major_units(charge.amount, charge.currency),
            "currency": charge.currency,
            "cardToken": charge.card_token,
            "description": charge.description or f"Order {charge.order_id}",
        }
        headers = self._headers(charge.key)
        return await wire.post(self._sidecar, _ENDPOINT, _PATH, body=body, headers=headers, read=_read_charge)

    async def look_up_charge(self, charge: Charge) -> Outcome | Absent:
        return await wire.look_up(self._sidecar, _LOOKUP, _PATH, charge.key, _read_charge, headers=self._headers())

    async def refund(self, refund: Refund, of: Charge) -> Outcome:
        path = wire.refunds_path(_PATH, of)
        body = {"amount": in_major_units(refund.amount, of.currency)}
        headers = self._headers(refund.provider_key)
        return await wire.post(self._sidecar, _ENDPOINT, path, body=body, headers=headers, read=_read_refund)

    async def look_up_refund(self, refund: Refund) -> Outcome | Absent:
        key = refund.provider_key
        path = f"{_PATH}/refunds"
        return await wire.look_up(self._sidecar, _LOOKUP, path, key, _read_refund, headers=self._headers())

    def _headers(self, key: str | None = None) -> dict[str, str]:
        bearer = {"Authorization": f"Bearer {self._secrets[KEY]}"}
        return bearer if key is None else bearer | {"Idempotency-Key": key}


def _read_charge(data: Any) -> Outcome:
    match data:
        case {"success": True, "transactionId": str(transaction_id)}:
            return wire.approved(transaction_id)
        case {"success": False, "errorMessage": str(reason)}:
            return wire.declined(reason)
        case _:
            return Unknown(reason="unreadable answer")


def _read_refund(data: Any) -> Outcome:
    match data:
        case {"success": True, "refundId": str(refund_id)}:
            return wire.approved(refund_id)
        case _:
            return Unknown(reason="unreadable answer")
