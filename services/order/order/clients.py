"""What order needs of payment, in order's own words."""

from typing import Any

from chassis.saga import Unknown
from chassis.sidecar import Sidecar, SidecarDown
from order.domain import Money
from order.saga import Approved, Declined, Refunded

_PAYMENT = "payment-service"


class Payments:
    """Each call names its key; called twice it does it once. Whatever is no final answer is Unknown."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    async def charge(
        self, *, tenant: str, order_id: str, total: Money, method: str, card_token: str | None, settle_only: bool
    ) -> Approved | Declined | Unknown:
        """With `settle_only` nothing new is charged: it only finds out what became of an earlier attempt."""
        data = await self._invoke(
            "process-payment",
            tenant,
            {
                "key": f"{order_id}:charge",
                "orderId": order_id,
                "amount": str(total.amount),
                "currency": total.currency,
                "paymentMethod": method,
                "cardToken": card_token,
                "description": f"Order {order_id}",
                "settleOnly": settle_only,
            },
        )
        match data:
            case {"status": "succeeded", "paymentId": str(payment_id), "transactionId": str(transaction_id)}:
                return Approved(payment_id=payment_id, transaction_id=transaction_id)
            case {
                "status": "declined" | "failed" as status,
                "paymentId": str(payment_id),
                "errorMessage": str() | None as reason,
            }:
                return Declined(status=status, payment_id=payment_id, reason=reason or status)
            case {"status": str(status)}:
                return Unknown(reason=status)
            case _:
                return Unknown(reason="no answer from payment")

    async def refund(self, *, tenant: str, order_id: str, payment_id: str, total: Money) -> Refunded | Unknown:
        body = {"key": f"{order_id}:refund", "paymentId": payment_id, "amount": str(total.amount)}
        match await self._invoke("refund-payment", tenant, body):
            case {"status": "succeeded"}:
                return Refunded()
            case {"status": str(status)}:
                return Unknown(reason=f"refund {status}")
            case _:
                return Unknown(reason="no answer from payment")

    async def _invoke(self, method: str, tenant: str, body: dict[str, Any]) -> Any:
        try:
            answer = await self._sidecar.invoke(_PAYMENT, method, body, headers={"X-Tenant-Id": tenant})
        except SidecarDown:
            return None
        # A 200 with no body, or a cut one, is the sidecar's when payment's own dies in the middle of an answer.
        return answer.data if answer.status == 200 else None
