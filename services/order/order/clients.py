"""What order needs of payment, in order's own words."""

from typing import Any
from urllib.parse import quote

import structlog

from chassis.sidecar import Answer, Sidecar, SidecarDown, Verdict
from chassis.story import Failed, Unknown
from order.declines import decline_code
from order.domain import Money
from order.saga import Approved, Declined, OrderRef, Refunded

log = structlog.get_logger()

_PAYMENT = "payment-service"


class Payments:
    """Each call names its key; called twice it does it once. Whatever is no final answer is Unknown."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    async def charge(
        self, ref: OrderRef, *, total: Money, method: str, card_token: str | None, settle_only: bool
    ) -> Approved | Declined | Unknown:
        """With `settle_only` nothing new is charged: it only finds out what became of an earlier attempt."""
        wanted: dict[str, Any] = {
            "key": f"{ref.id}:charge",
            "orderId": ref.id,
            "amount": str(total.amount),
            "currency": total.currency,
            "paymentMethod": method,
            "cardToken": card_token,
            "description": f"Order {ref.id}",
            "settleOnly": settle_only,
        }
        answer = await self._invoke("process-payment", ref, wanted)
        if _refuses(answer) and not settle_only:
            # It took nothing now; that an earlier attempt was charged is still possible. Settling tells, and ends it.
            log.error("payment.refused_the_charge", order_id=ref.id)
            answer = await self._invoke("process-payment", ref, wanted | {"cardToken": None, "settleOnly": True})
        return _charged(_data(answer))

    async def refund(self, ref: OrderRef, *, payment_id: str, total: Money) -> Refunded | Failed | Unknown:
        body = {"key": f"{ref.id}:refund", "paymentId": payment_id, "amount": str(total.amount)}
        match _data(await self._invoke("refund-payment", ref, body)):
            case {"status": "succeeded"}:
                return Refunded()
            case {"status": "failed"}:
                return Failed(reason="refund failed")
            case {"status": str(status)}:
                return Unknown(reason=f"refund {status}", pending=status == "processing")
            case _:
                return Unknown(reason="no answer from payment")

    async def _invoke(self, method: str, ref: OrderRef, body: dict[str, Any]) -> Answer | None:
        headers = {"X-Tenant-Id": ref.tenant, "X-Tenant-Name": quote(ref.tenant_name)}
        try:
            return await self._sidecar.invoke(_PAYMENT, method, body, headers=headers)
        except SidecarDown:
            return None


def _refuses(answer: Answer | None) -> bool:
    """Payment's own definite no to what it was asked."""
    return answer is not None and answer.status == 422 and answer.verdict is Verdict.REFUSED


def _data(answer: Answer | None) -> Any:
    """A 200 with no body, or a cut one, is the sidecar's when payment's own dies in the middle of an answer."""
    return answer.data if answer is not None and answer.status == 200 else None


def _charged(data: Any) -> Approved | Declined | Unknown:
    match data:
        case {"status": "succeeded", "paymentId": str(payment_id), "transactionId": str(transaction_id)}:
            return Approved(payment_id=payment_id, transaction_id=transaction_id)
        case {
            "status": "declined" | "failed" as status,
            "paymentId": str(payment_id),
            "errorMessage": str() | None as reason,
        }:
            return Declined(status=status, payment_id=payment_id, code=decline_code(status, reason or ""))
        case {"status": str(status)}:
            return Unknown(reason=status, pending=status == "processing")
        case _:
            return Unknown(reason="no answer from payment")
