"""Idempotency-Key on POST /orders: a record in the Dapr state store, inserted once, that reserves an order's id.

The record says which body the key belongs to and which id its order has, or will have. Whether that order exists is
asked of SQL alone, so a record can never claim an order that isn't there.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chassis.edge.auth import Caller
from chassis.ids import new_id, now
from chassis.sidecar import Sidecar, SidecarDown

MAX_KEY = 255
_TTL = timedelta(hours=24)
_LEASE = timedelta(seconds=10)


class IdempotencyMismatch(Exception):
    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another body.")


class IdempotencyInFlight(Exception):
    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is under way.")


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The order id that belongs to a key. `first` when this request made the record; else its lease's end counts."""

    order_id: str
    first: bool
    leased_until: datetime

    def check_free(self) -> None:
        """Refuse while the request that made the record may still be placing the order."""
        if not self.first and now() < self.leased_until:
            raise IdempotencyInFlight


class IdempotencyRecords:
    def __init__(self, *, sidecar: Sidecar, store: str) -> None:
        self._sidecar = sidecar
        self._store = store

    async def reserve(self, caller: Caller, key: str, body: bytes) -> Reservation:
        """The key's order id, new or known. Raises IdempotencyMismatch, or SidecarDown when the store is."""
        name = _name(caller, key)
        fresh: dict[str, Any] = {
            "bodyHash": hashlib.sha256(body).hexdigest(),
            "orderId": new_id(),
            "leasedUntil": (now() + _LEASE).isoformat(),
        }
        ttl = int(_TTL.total_seconds())
        if await self._sidecar.insert_state(self._store, name, fresh, ttl_seconds=ttl):
            return _reservation(fresh, first=True)
        known, _etag = await self._sidecar.get_state(self._store, name)
        if known is None:  # the store refused, and not for what it holds; or the record ended in between
            raise SidecarDown(self._store)
        if known["bodyHash"] != fresh["bodyHash"]:
            raise IdempotencyMismatch
        return _reservation(known, first=False)

    async def forget(self, caller: Caller, key: str) -> None:
        """Free the key of a request that was refused after its record was made."""
        name = _name(caller, key)
        known, etag = await self._sidecar.get_state(self._store, name)
        if known is not None:
            await self._sidecar.delete_state(self._store, name, etag)


def _reservation(record: dict[str, Any], *, first: bool) -> Reservation:
    until = datetime.fromisoformat(record["leasedUntil"])
    return Reservation(order_id=record["orderId"], first=first, leased_until=until)


def _name(caller: Caller, key: str) -> str:
    """Client text never becomes part of a state key; the length prefixes keep tenant, caller and key apart."""
    parts = "".join(f"{len(part)}:{part}" for part in (caller.tenant, caller.subject, key))
    return f"idem:{hashlib.sha256(parts.encode()).hexdigest()}"
