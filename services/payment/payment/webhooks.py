"""What providers tell us of their own accord (Standard Webhooks), and what comes of it.

A webhook says what an answer says, only later, or earlier, or twice: it settles what is still open, and is otherwise
harmless.
"""

from collections.abc import Callable
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
from chassis.webhooks import Signatures
from chassis.wire import Wire
from payment.api.shapes import Amount, Reference
from payment.charges import Charges, report_late
from payment.currencies import exponent_of
from payment.domain import AmountDoesNotFit, Approved, Declined, Refund, minor_units
from payment.refunds import Refunds
from payment.system import charges_under, refunds_under
from payment.tables import webhooks

log = structlog.get_logger()

MAX_ID = 128  # as long as its column
_REMEMBERED = timedelta(days=7)  # far longer than a signature is good for, and than a provider tries again


class Told(Wire):
    idempotency_key: Annotated[str, Field(max_length=255, pattern=r"^[\x21-\x7e]+$")]
    transaction_id: Reference
    refund_id: Reference | None = None
    status: str
    reason: Annotated[str, Field(max_length=255, pattern=r"^[^\x00]*$")] | None = None
    amount: Amount  # a decimal string in major units
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class Delivery(Wire, NoCards):
    type: Literal["charge.approved", "charge.declined", "refund.succeeded"]
    data: Told


class Webhooks:
    def __init__(self, *, charges: Charges, refunds: Refunds) -> None:
        self._charges = charges
        self._refunds = refunds
        self.signatures = Signatures()
        self.expiry = Expiry.of(webhooks.c.received_at, _REMEMBERED)

    def unlock(self, secrets: str) -> None:
        self.signatures = Signatures(secrets)

    async def take(self, provider: str, delivery_id: str, delivery: Delivery) -> None:
        """Settle what it is about, if that is open still. A delivery that has been taken before does nothing.

        It is remembered after its effect, and only if it had one: killed between the two, the provider sends it again,
        and settling twice is settling once.
        """
        if await self._seen(provider, delivery_id):
            log.info("webhook.repeated", provider=provider, webhook_id=delivery_id)
            return
        about = self._refund if delivery.type == "refund.succeeded" else self._charge
        if await about(provider, delivery):
            await self._remember(provider, delivery_id)

    async def _charge(self, provider: str, delivery: Delivery) -> bool:
        """Whether this settled it."""
        told = delivery.data
        rows = await self._charges.db.read(lambda conn: charges_under(conn, told.idempotency_key))
        charge = _only([self._charges.parse(row) for row in rows], provider, told)
        if charge is None:
            return False
        with told_of(tenant=charge.tenant):
            if charge.provider != provider:
                if delivery.type == "charge.approved":
                    # It was proved absent there, and then appeared: money to be looked after by a person.
                    log.error("charge.at_two_providers", payment_id=charge.id, provider=provider)
                return False
            if not _same_money(told, charge.amount, charge.currency):
                log.error("webhook.other_amount", payment_id=charge.id, provider=provider)
                return False
            approved = delivery.type == "charge.approved"
            outcome = (
                Approved(transaction_id=told.transaction_id) if approved else Declined(reason=told.reason or "declined")
            )
            if charge.final:  # most come after the charge's own answer: no need to write in order to learn that
                report_late(charge, outcome, stands=charge)
                return False
            return await self._charges.settle(charge, outcome, actor=f"webhook of provider {provider}") is not None

    async def _refund(self, provider: str, delivery: Delivery) -> bool:
        told = delivery.data
        rows = await self._charges.db.read(lambda conn: refunds_under(conn, told.idempotency_key))
        refund = _only([Refund.model_validate(row) for row in rows], provider, told)
        if refund is None:
            return False
        with told_of(tenant=refund.tenant):
            charge = await self._charges.attempts.get(refund.payment_id)
            if charge.provider != provider or not _same_money(told, refund.amount, charge.currency):
                log.error("webhook.other_amount", refund_id=refund.id, provider=provider)
                return False
            outcome = Approved(transaction_id=told.refund_id or told.transaction_id)
            return await self._refunds.settle(refund, outcome, actor=f"webhook of provider {provider}") is not None

    async def _seen(self, provider: str, delivery_id: str) -> bool:
        query = sa.select(webhooks.c.id).where(webhooks.c.provider == provider, webhooks.c.id == delivery_id)
        return await self._charges.db.read(lambda conn: conn.execute(query).one_or_none() is not None)

    async def _remember(self, provider: str, delivery_id: str) -> None:
        def work(conn: sa.Connection) -> None:
            row = {"provider": provider, "id": delivery_id, "received_at": now()}
            conn.execute(upsert(conn, webhooks).values(row).on_conflict_do_nothing())

        await self._charges.db.write(work)


def parse(body: bytes, validate: Callable[[Any], Delivery] = Delivery.model_validate) -> Delivery | None:
    """The delivery, None where it is of a type that is not for us. Raises pydantic's ValidationError or ValueError."""
    content = orjson.loads(body)
    if isinstance(content, dict) and content.get("type") not in _TYPES:  # pyright: ignore[reportUnknownMemberType]
        return None
    return validate(content)


_TYPES = ("charge.approved", "charge.declined", "refund.succeeded")


def _only(found: list[Any], provider: str, told: Told) -> Any:
    """The one that it is about. None where it is none of ours, or could be another's."""
    if len(found) == 1:
        return found[0]
    log.warning("webhook.unknown_key", provider=provider, found=len(found), currency=told.currency)
    return None


def _same_money(told: Told, amount: int, currency: str) -> bool:
    try:
        return told.currency == currency and minor_units(Decimal(told.amount), exponent_of(currency)) == amount
    except AmountDoesNotFit:
        return False
