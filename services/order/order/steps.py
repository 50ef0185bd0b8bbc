"""Each side effect of the saga, idempotent by its business key."""

import structlog

from chassis.ids import now
from chassis.saga import Incident, Performer, Run, StepRecord
from chassis.story import Failed, Unknown
from order.clients import Payments
from order.declines import DeclineCode
from order.domain import GIVE_UP_AFTER
from order.saga import Approved, Confirmed, Declined, GivenBack, OrderRef, Refunded, TooLate
from order.saga_store import Charge, Stores
from order.telemetry import tell_confirmed, tell_failed

log = structlog.get_logger()


class Steps:
    def __init__(self, *, stores: Stores, payments: Payments) -> None:
        self._stores = stores
        self._payments = payments

    def performers(self) -> dict[str, Performer]:
        return {
            "charge": Performer(perform=self.charge, outcome=Approved | Declined),
            "confirm": Performer(perform=self.confirm, outcome=Confirmed | TooLate, argument=Approved),
            "give_back": Performer(perform=self.give_back, outcome=GivenBack, argument=Declined),
            "refund": Performer(perform=self.refund, outcome=Refunded, argument=Approved),
        }

    async def charge(self, ref: OrderRef, _argument: None, run: Run) -> Approved | Declined | Unknown:
        """Charge under `{order_id}:charge`; an order that is over already only learns what its charge became."""
        store = self._stores.of(ref.tenant)
        wanted: Charge = run.known or await store.to_charge(ref.id)
        outcome = await self._payments.charge(
            ref,
            total=wanted.total,
            method=wanted.method,
            card_token=wanted.card_token,
            settle_only=wanted.settle_only,
        )
        if isinstance(outcome, Unknown) and not wanted.settle_only and now() - wanted.created_at > GIVE_UP_AFTER:
            log.error("order.given_up", order_id=ref.id)
            if (failed := await store.give_up(ref)) is not None:
                tell_failed(failed, DeclineCode.NO_ANSWER.value)
        return outcome

    async def confirm(self, ref: OrderRef, paid: Approved, run: Run) -> Confirmed | TooLate:
        done = await self._stores.of(ref.tenant).confirm(ref, paid, run.drain)
        if done is None:
            return TooLate()
        version, just_confirmed = done
        if just_confirmed is not None:
            tell_confirmed(just_confirmed)
        return Confirmed(version=version, paid=paid)

    async def give_back(self, ref: OrderRef, refusal: Declined, run: Run) -> GivenBack:
        failed = await self._stores.of(ref.tenant).give_back(ref, refusal, run.drain)
        if failed is not None:
            tell_failed(failed, refusal.code.value)
        log.warning("order.payment_failed", order_id=ref.id, failed_step="charge", decline_code=refusal.code.value)
        return GivenBack(code=refusal.code)

    async def refund(self, ref: OrderRef, paid: Approved, run: Run) -> Refunded | Failed | Unknown:
        """Give the money back under `{order_id}:refund`; owed is on record before anything is asked."""
        store = self._stores.of(ref.tenant)
        if not await store.owe_refund(ref, paid):
            return Refunded()
        order = await store.get(ref.id)
        outcome = await self._payments.refund(ref, payment_id=paid.payment_id, total=order.total)
        if isinstance(outcome, Unknown | Failed):
            log.error("refund.owed", order_id=ref.id, reason=outcome.reason)
            return outcome
        await store.refunded(ref, run.drain)
        return outcome

    async def give_up(self, ref: OrderRef, incident: Incident) -> None:
        """A compensation failed for good: nobody drives the order any more until a person has it tried again."""
        await self._stores.of(ref.tenant).stop(ref.id, incident)

    async def flush(self, ref: OrderRef, records: list[StepRecord]) -> None:
        await self._stores.of(ref.tenant).write_timeline(ref.id, records)
