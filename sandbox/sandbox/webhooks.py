"""Webhooks of the payment providers, as https://www.standardwebhooks.com has them: at least once, and as untidy as it
is ordered."""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from sandbox.courier import Courier, Delivery, signing_key
from sandbox.ledger import Charge, Refund
from sandbox.records import stamp, utc_now

log = logging.getLogger(__name__)

Mode = Literal["on", "off", "early", "duplicate", "shuffled"]

_EARLY_S = 2.0
_SHUFFLED_S = 2.0

_CHANCE = random.SystemRandom().uniform


class Manner(BaseModel):
    """How webhooks are sent from now on; `delay_ms` passes before the first try in every mode.

    `early` has the provider's own answer wait for the delivery, for 2 s at most; `duplicate` sends each twice at once,
    under one id; `shuffled` holds each for a random part of 2 s.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    mode: Mode = "on"
    delay_ms: int = Field(default=0, alias="delayMs", ge=0, le=600_000)


class Webhooks:
    """Sends to `{url}/{provider}` in the background. Nothing outlives the process, or `forget`.

    `secrets` are by provider, each `whsec_<base64>`, comma-separated, of which the newest, the first, signs. Without a
    URL, or a secret of its own, a provider sends none. `pause` waits for some seconds and is
    False, at once, when the sandbox stops.
    """

    def __init__(
        self,
        *,
        url: str,
        secrets: Mapping[str, str],
        pause: Callable[[float], Awaitable[bool]],
        clock: Callable[[], datetime] = utc_now,
        chance: Callable[[float, float], float] = _CHANCE,
    ) -> None:
        if url and not secrets:
            log.warning("webhooks.no-secret", extra={"keys": {"set": "SANDBOX_PROVIDER_WEBHOOK_SECRETS"}})
        self.url = url.rstrip("/") if secrets else ""
        self.manner = Manner()
        self._keys = {provider: signing_key(known.partition(",")[0].strip()) for provider, known in secrets.items()}
        self._pause = pause
        self._chance = chance
        self._courier = Courier(pause=pause, clock=clock)

    async def start(self) -> None:
        """Opens the connections' pool."""
        await self._courier.start()

    async def stop(self) -> None:
        """Drops what is not delivered yet."""
        await self._courier.stop()

    async def announce(self, provider: str, record: Charge | Refund) -> None:
        """Sends what was decided; returns at once unless it is to arrive early."""
        manner = self.manner
        if not self.url or provider not in self._keys or manner.mode == "off":
            return
        delivery = self._delivery(provider, record)
        wait = manner.delay_ms / 1000 + (self._chance(0, _SHUFFLED_S) if manner.mode == "shuffled" else 0)
        sent = self._courier.send([delivery], wait=wait)
        if manner.mode == "duplicate":
            self._courier.send([delivery], wait=wait)
        if manner.mode == "early":
            await self._await_early(sent)

    def newest(self) -> list[dict[str, Any]]:
        """The last deliveries, newest first."""
        return self._courier.newest()

    def forget(self) -> None:
        """Nothing was ever sent, and what is not delivered yet never will be."""
        self._courier.forget()

    async def _await_early(self, sent: asyncio.Task[None]) -> None:
        long_enough = asyncio.ensure_future(self._pause(_EARLY_S))
        try:
            await asyncio.wait({sent, long_enough}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            long_enough.cancel()

    def _delivery(self, provider: str, record: Charge | Refund) -> Delivery:
        kind, body = _told(record)
        return Delivery(
            id=f"msg_{uuid4().hex}",
            provider=provider,
            type=kind,
            key=record.key,
            at=record.at,
            url=f"{self.url}/{provider}",
            body=body,
            signing_key=self._keys[provider],
        )


def _told(record: Charge | Refund) -> tuple[str, bytes]:
    match record:
        case Charge(declined=None):
            status, kind = "approved", "charge.approved"
        case Charge():
            status, kind = "declined", "charge.declined"
        case Refund():
            status, kind = "succeeded", "refund.succeeded"
    data = {
        "idempotencyKey": record.key,
        "transactionId": record.transaction_id,
        **({"refundId": record.refund_id} if isinstance(record, Refund) else {}),
        "status": status,
        "reason": record.declined if isinstance(record, Charge) else None,
        "amount": f"{record.amount:f}",
        "currency": record.currency,
    }
    return kind, json.dumps({"type": kind, "timestamp": stamp(record.at), "data": data}, separators=(",", ":")).encode()
