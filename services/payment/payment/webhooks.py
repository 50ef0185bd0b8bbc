"""What providers tell us of their own accord (Standard Webhooks), and what comes of it.

A webhook says what an answer says, only later, or earlier, or twice: it settles what is still open, and is otherwise
harmless.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
import sqlalchemy as sa
import structlog
from pydantic import Field

from chassis.cards import NoCards
from chassis.db import upsert
from chassis.ids import now
from chassis.retention import Expiry
from chassis.telemetry import told_of
from chassis.webhooks import Signatures, by_provider
from chassis.wire import Wire
from payment.attempts import Also
from payment.charges import Charges, report_late
from payment.currencies import exponent_of
from payment.domain import AmountDoesNotFit, Approved, Charge, Declined, Refund, minor_units
from payment.refunds import Refunds
from payment.shapes import Amount, Reference
from payment.system import charge_of, charges_under, refunds_under
from payment.tables import webhooks

log = structlog.get_logger()

MAX_ID = 128  # as long as its column
_REMEMBERED = timedelta(days=7)  # far longer than a signature is good for, and than a provider tries again
# Built once: building a statement costs several times what running it does.
_REMEMBERED_AS = sa.select(webhooks.c.id).where(
    webhooks.c.provider == sa.bindparam("by_provider"), webhooks.c.id == sa.bindparam("of_id")
)


class Result(Wire):
    """Of a charge or refund; the key is that of the request which asked for it."""

    idempotency_key: Annotated[str, Field(max_length=255, pattern=r"^[\x21-\x7e]+$")]
    transaction_id: Reference
    refund_id: Reference | None = None
    status: str
    reason: Annotated[str, Field(max_length=255, pattern=r"^[^\x00]*$")] | None = None
    amount: Amount  # a decimal string in major units
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class Delivery(Wire, NoCards):
    type: Literal["charge.approved", "charge.declined", "refund.succeeded"]
    data: Result


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What we have under a delivery's key: a charge, or a refund and the charge it is of; and whether the delivery has
    had its effect before."""

    charge: Charge | None = None
    refund: Refund | None = None
    repeated: bool = False


class Webhooks:
    def __init__(self, *, charges: Charges, refunds: Refunds) -> None:
        self._charges = charges
        self._refunds = refunds
        self._signatures: Mapping[str, Signatures] = {}
        self.expiry = Expiry.of(webhooks.c.received_at, _REMEMBERED)

    def unlock(self, secrets: str) -> None:
        """JSON by provider."""
        self._signatures = by_provider(secrets)

    def verify(self, provider: str, body: bytes, headers: Mapping[str, str]) -> str:
        """The delivery's id, where that provider signed it. Raises NotSigned."""
        return self._signatures.get(provider, Signatures()).verify(body, headers)

    async def take(self, provider: str, delivery_id: str, delivery: Delivery) -> None:
        """Settle what it is about, if that is open still: in one transaction, in which it is remembered too. A delivery
        that had its effect before does nothing."""
        known = await self._charges.db.read(lambda conn: self._look(conn, provider, delivery_id, delivery))
        if known.repeated:
            log.info("webhook.repeated", provider=provider, webhook_id=delivery_id)
            return
        if known.charge is None:
            return

        def remember(conn: sa.Connection) -> None:
            row = {"provider": provider, "id": delivery_id, "received_at": now()}
            conn.execute(upsert(conn, webhooks).values(row).on_conflict_do_nothing())

        with told_of(tenant=known.charge.tenant, tenant_name=known.charge.tenant_name):
            if known.refund is not None:
                await self._settle_refund(provider, delivery.data, known.refund, known.charge, remember)
            else:
                await self._settle_charge(provider, delivery, known.charge, remember)

    def _look(self, conn: sa.Connection, provider: str, delivery_id: str, delivery: Delivery) -> _Known:
        if conn.execute(_REMEMBERED_AS, {"by_provider": provider, "of_id": delivery_id}).first() is not None:
            return _Known(repeated=True)
        key = delivery.data.idempotency_key
        if delivery.type != "refund.succeeded":
            row = _only(charges_under(conn, key), provider, delivery.data)
            return _Known(charge=self._charges.parse(row)) if row is not None else _Known()
        if (row := _only(refunds_under(conn, key), provider, delivery.data)) is None:
            return _Known()
        refund = Refund.model_validate(row)
        return _Known(refund=refund, charge=self._charges.parse(charge_of(conn, refund.payment_id)))

    async def _settle_charge(self, provider: str, delivery: Delivery, charge: Charge, remember: Also) -> None:
        result, approved = delivery.data, delivery.type == "charge.approved"
        if charge.provider != provider:
            if approved:  # it was proved absent there, and then appeared: money to be looked after by a person
                log.error("charge.at_two_providers", payment_id=charge.id, provider=provider)
            return
        if not _same_money(result, charge.amount, charge.currency):
            log.error("webhook.other_amount", payment_id=charge.id, provider=provider)
            return
        outcome = (
            Approved(transaction_id=result.transaction_id) if approved else Declined(reason=result.reason or "declined")
        )
        if charge.final:  # most come after the charge's own answer: no need to write in order to learn that
            report_late(charge, outcome, stands=charge)
            return
        await self._charges.settle(charge, outcome, actor=f"webhook of provider {provider}", also=remember)

    async def _settle_refund(
        self, provider: str, result: Result, refund: Refund, charge: Charge, remember: Also
    ) -> None:
        if charge.provider != provider or not _same_money(result, refund.amount, charge.currency):
            log.error("webhook.other_amount", refund_id=refund.id, provider=provider)
            return
        if result.idempotency_key != refund.provider_key:  # of an earlier time, which has failed, by what we know
            log.error("refund.contradicted", refund_id=refund.id, status=refund.status.value)
            return
        outcome = Approved(transaction_id=result.refund_id or result.transaction_id)
        await self._refunds.settle(refund, outcome, actor=f"webhook of provider {provider}", also=remember)


def parse(body: bytes, validate: Callable[[Any], Delivery] = Delivery.model_validate) -> Delivery | None:
    """The delivery, None where it is of a type that is not for us. Raises pydantic's ValidationError or ValueError."""
    content = orjson.loads(body)
    if isinstance(content, dict) and content.get("type") not in _TYPES:  # pyright: ignore[reportUnknownMemberType]
        return None
    return validate(content)


_TYPES = ("charge.approved", "charge.declined", "refund.succeeded")


def _only(found: Sequence[sa.RowMapping], provider: str, result: Result) -> sa.RowMapping | None:
    """The one that it is about. None where it is none of ours, or could be another's."""
    if len(found) == 1:
        return found[0]
    log.warning("webhook.unknown_key", provider=provider, found=len(found), currency=result.currency)
    return None


def _same_money(result: Result, amount: int, currency: str) -> bool:
    try:
        return result.currency == currency and minor_units(Decimal(result.amount), exponent_of(currency)) == amount
    except AmountDoesNotFit:
        return False
