"""Payments as finance sees them: look, follow every move, and settle what nobody could learn."""

from datetime import datetime
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import Query, Request
from pydantic import Field, StringConstraints

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.ids import id_or, now
from chassis.paging import Cursor, Limit, decode_cursor, next_cursor
from chassis.problems import Invalid
from chassis.retry_delays import GIVE_UP
from chassis.wire import Wire, example
from payment.domain import Approved, Declined, NotOverdue, PaymentNotFound, RefundNotFound, Refused, Status
from payment.services import services
from payment.shapes import PRINTABLE, Body, Money, PaymentView, Reference, RefundView, money
from payment.store import PaymentStore

_NO_PAYMENT = {403: "different-tenant", 404: "payment-not-found"}


PaymentId = Annotated[str, id_or(PaymentNotFound)]
RefundId = Annotated[str, id_or(RefundNotFound)]
Reason = Annotated[str, StringConstraints(max_length=200, pattern=PRINTABLE)]


class PaymentPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[PaymentView]
    next: str | None


class RefundList(Wire):
    items: list[RefundView]


class Move(Wire):
    """One move of the payment, or of the refund that it names, whose statuses are some of a payment's."""

    refund_id: str | None
    from_status: Status
    to_status: Status
    actor: str
    reason: str | None
    reference: str | None
    at: datetime


class MoveList(Wire):
    items: list[Move]


class UnsettledView(Wire):
    """A charge or refund whose outcome is not known yet: `attempts` is how often it was asked about in vain."""

    kind: Literal["charge", "refund"]
    id: str
    payment_id: str
    order_id: str
    provider: str
    amount: Money
    attempts: int
    since: datetime
    next_check_at: datetime


class UnsettledList(Wire):
    items: list[UnsettledView]


class SettledCharge(
    Body,
    json_schema_extra=example(outcome="succeeded", transactionId="txn_1", reason="seen in the provider's dashboard"),
):
    """What a person has found out at the provider. `transactionId` is the provider's, of a charge that succeeded."""

    outcome: Literal["succeeded", "declined", "failed"]
    transaction_id: Annotated[Reference | None, Field(examples=["txn_1"])] = None
    reason: Reason

    def known(self) -> Approved | Declined | Refused:
        if self.outcome == "succeeded":
            return _approved(self.transaction_id)
        return Declined(reason=self.reason) if self.outcome == "declined" else Refused(reason=self.reason)


class SettledRefund(Body, json_schema_extra=example(outcome="failed", reason="the card is closed")):
    outcome: Literal["succeeded", "failed"]
    transaction_id: Reference | None = None
    reason: Reason

    def known(self) -> Approved | Refused:
        return _approved(self.transaction_id) if self.outcome == "succeeded" else Refused(reason=self.reason)


def _approved(transaction_id: str | None) -> Approved:
    if transaction_id is None:
        raise Invalid("/transactionId", "Money that moved has a reference at the provider.")
    return Approved(transaction_id=transaction_id)


_NOT_YET = {409: "not-overdue"}

router = Routes(prefix="/api/v1", responses=refused({422: "invalid-request", 503: "database-unavailable"}))


def _payments(request: Request) -> PaymentStore:
    """Those of the caller's tenant."""
    return PaymentStore(services(request).charges, caller_of(request).tenant)


@router.get("/payments", tags=["payments"])
async def list_payments(
    request: Request,
    status: Status | None = None,
    order_id: Annotated[str | None, Query(alias="orderId", max_length=64, pattern=r"^[^\x00]+$")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> PaymentPage:
    """Newest first."""
    before = decode_cursor(cursor) if cursor is not None else None
    found = await _payments(request).page(status=status, order_id=order_id, before=before, limit=limit + 1)
    following = next_cursor(found, limit, lambda row: row.id)
    return PaymentPage(items=[PaymentView.of(charge) for charge in found[:limit]], next=following)


@router.get("/payments/unsettled", tags=["payments"])
async def list_unsettled_payments(request: Request, limit: Limit = 20) -> UnsettledList:
    """Oldest first; those under way at this moment among them."""
    rows = await _payments(request).unsettled(limit=limit)
    return UnsettledList(items=[_unsettled(row) for row in rows])


def _unsettled(row: sa.RowMapping) -> UnsettledView:
    facts: dict[str, Any] = {**row, "amount": money(row["amount"], row["currency"])}
    return UnsettledView(**facts)


@router.get("/payments/{payment_id}", responses=refused(_NO_PAYMENT), tags=["payments"])
async def get_payment(request: Request, payment_id: PaymentId) -> PaymentView:
    return PaymentView.of(await _payments(request).get(payment_id))


@router.get("/payments/{payment_id}/refunds", responses=refused(_NO_PAYMENT), tags=["refunds"])
async def list_refunds(request: Request, payment_id: PaymentId) -> RefundList:
    """Oldest first."""
    charge = await _payments(request).get(payment_id)
    return RefundList(
        items=[RefundView.of(refund, charge.currency) for refund in await _payments(request).refunds_of(payment_id)]
    )


@router.get("/payments/{payment_id}/moves", responses=refused(_NO_PAYMENT), tags=["payments"])
async def list_payment_moves(request: Request, payment_id: PaymentId) -> MoveList:
    """Who, when, why, and the provider's reference; oldest first."""
    await _payments(request).get(payment_id)
    return MoveList(
        items=[Move.model_validate(row, from_attributes=True) for row in await _payments(request).moves_of(payment_id)]
    )


@router.post("/payments/{payment_id}/settle", responses=refused(_NO_PAYMENT | _NOT_YET), tags=["payments"])
async def settle_payment(request: Request, payment_id: PaymentId, body: SettledCharge) -> PaymentView:
    """A person says what became of a charge that nobody could learn for 24 hours."""
    charge = await _payments(request).get(payment_id)
    _require_overdue(charge)
    settled = await services(request).charges.settle(charge, body.known(), actor=_person(request), why=body.reason)
    if settled is None:
        raise NotOverdue
    return PaymentView.of(settled)


@router.post(
    "/refunds/{refund_id}/settle",
    responses=refused({403: "different-tenant", 404: "refund-not-found"} | _NOT_YET),
    tags=["refunds"],
)
async def settle_refund(request: Request, refund_id: RefundId, body: SettledRefund) -> RefundView:
    """The same for a refund."""
    store = _payments(request)
    refund = await store.get_refund(refund_id)
    _require_overdue(refund)
    settled = await services(request).refunds.settle(refund, body.known(), actor=_person(request), why=body.reason)
    if settled is None:
        raise NotOverdue
    return RefundView.of(settled, (await store.get(settled.payment_id)).currency)


def _require_overdue(attempt: Any) -> None:
    if attempt.final or now() - (attempt.first_posted_at or attempt.created_at) < GIVE_UP:
        raise NotOverdue


def _person(request: Request) -> str:
    return f"person {caller_of(request).subject}"
