"""What a payment provider knows: charges, refunds, and the answers it owes under a key. Any dialect speaks over it."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import Field, TypeAdapter

from sandbox.lists import Listed
from sandbox.records import Journal, stamp, utc_now


class Refusal(StrEnum):
    """What a provider refuses to do; nothing is recorded."""

    KEY_REUSED = "idempotency_key_reused"
    UNKNOWN_TRANSACTION = "unknown_transaction"
    NOT_CHARGED = "transaction_not_charged"
    EXCEEDS_CHARGE = "refund_exceeds_charge"


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """A decided charge. `declined` is its reason, None when the money was taken."""

    kind: Literal["charge"] = "charge"
    transaction_id: str
    order_id: str | None
    amount: Decimal
    currency: str
    declined: str | None
    key: str | None
    fingerprint: str
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Refund:
    """Money given back, all of a charge or a part."""

    kind: Literal["refund"] = "refund"
    refund_id: str
    transaction_id: str
    order_id: str | None
    amount: Decimal
    currency: str
    key: str | None
    fingerprint: str
    at: datetime


_RECORD: TypeAdapter[Charge | Refund] = TypeAdapter(Annotated[Charge | Refund, Field(discriminator="kind")])


class Books:
    """One provider's books; what was accepted is in the `ledger` of all providers too, by order. Amounts are in major
    units, whatever the provider's dialect has.

    Every method runs without a pause on the one event loop, so two calls with the same key can't both be the first.
    A record is on file before its caller is answered.
    """

    def __init__(
        self,
        *,
        provider: str,
        journal: Journal,
        ledger: Listed,
        key_ttl: timedelta,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._provider = provider
        self._ledger = ledger
        self._journal = journal
        self._key_ttl = key_ttl
        self._clock = clock
        self._accepted = 0
        self._charges: dict[str, Charge] = {}
        self._charge_keys: dict[str, Charge] = {}
        self._refund_keys: dict[str, Refund] = {}
        self._refunded: defaultdict[str, Decimal] = defaultdict(Decimal)
        for line in journal.replay():
            self._enter(_RECORD.validate_json(line))

    def charge(
        self,
        *,
        key: str | None,
        fingerprint: str,
        order_id: str | None,
        amount: Decimal,
        currency: str,
        declined: str | None,
    ) -> Charge | Refusal:
        """Decides a charge, or answers the one already decided under `key`."""
        if known := self.charge_under(key):
            return known if known.fingerprint == fingerprint else Refusal.KEY_REUSED
        charge = Charge(
            transaction_id=f"txn_{uuid4().hex}",
            order_id=order_id,
            amount=amount,
            currency=currency,
            declined=declined,
            key=key,
            fingerprint=fingerprint,
            at=self._clock(),
        )
        self._keep(charge)
        return charge

    def refund(self, *, key: str | None, fingerprint: str, transaction_id: str, amount: Decimal) -> Refund | Refusal:
        """Gives back `amount` of a charge, or answers the refund already made under `key`."""
        if known := self.refund_under(key):
            return known if known.fingerprint == fingerprint else Refusal.KEY_REUSED
        charge = self._charges.get(transaction_id)
        if charge is None:
            return Refusal.UNKNOWN_TRANSACTION
        if charge.declined:
            return Refusal.NOT_CHARGED
        if amount > charge.amount - self.refunded(transaction_id):
            return Refusal.EXCEEDS_CHARGE
        refund = Refund(
            refund_id=f"ref_{uuid4().hex}",
            transaction_id=transaction_id,
            order_id=charge.order_id,
            amount=amount,
            currency=charge.currency,
            key=key,
            fingerprint=fingerprint,
            at=self._clock(),
        )
        self._keep(refund)
        return refund

    def charge_under(self, key: str | None) -> Charge | None:
        """The charge decided under `key` while the key lives."""
        charge = self._charge_keys.get(key) if key else None
        return charge if charge and self._lives(charge) else None

    def charge_of(self, transaction_id: str) -> Charge | None:
        """The charge with this id, taken or declined."""
        return self._charges.get(transaction_id)

    def refund_under(self, key: str | None) -> Refund | None:
        """The refund made under `key` while the key lives."""
        refund = self._refund_keys.get(key) if key else None
        return refund if refund and self._lives(refund) else None

    def refunded(self, transaction_id: str) -> Decimal:
        """What has been given back of a charge so far."""
        return self._refunded.get(transaction_id, Decimal(0))

    def __len__(self) -> int:
        return self._accepted

    def forget(self) -> None:
        """Empties the books."""
        self._journal.forget()
        self._accepted = 0
        for index in (self._charges, self._charge_keys, self._refund_keys, self._refunded):
            index.clear()

    def _lives(self, record: Charge | Refund) -> bool:
        return self._clock() - record.at < self._key_ttl

    def _keep(self, record: Charge | Refund) -> None:
        self._journal.append(_RECORD.dump_json(record))
        self._enter(record)

    def _enter(self, record: Charge | Refund) -> None:
        if isinstance(record, Charge):
            self._charges[record.transaction_id] = record
            if record.key:
                self._charge_keys[record.key] = record
            if record.declined:
                return
        else:
            self._refunded[record.transaction_id] += record.amount
            if record.key:
                self._refund_keys[record.key] = record
        self._accepted += 1
        self._ledger.add(self._shown(record), record.order_id or "")

    def _shown(self, record: Charge | Refund) -> dict[str, str | None]:
        """As the contract's ledger shows it."""
        return {
            "provider": self._provider,
            "kind": record.kind,
            "orderId": record.order_id,
            "idempotencyKey": record.key,
            "amount": f"{record.amount:f}",
            "currency": record.currency,
            "at": stamp(record.at),
        }
