"""Webhooks out, as https://www.standardwebhooks.com has them: at least once, and as untidy as it is ordered."""

import asyncio
import base64
import hmac
import json
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal
from uuid import uuid4

import aiohttp
from pydantic import BaseModel, ConfigDict, Field

from sandbox.ledger import Charge, Refund
from sandbox.records import stamp, utc_now

log = logging.getLogger(__name__)

Mode = Literal["on", "off", "early", "duplicate", "shuffled"]

_RETRIES_AFTER = (1.0, 2.0, 4.0, 8.0)  # seconds
_TRY_S = 10.0
_EARLY_S = 2.0
_SHUFFLED_S = 2.0
_SHOWN = 200

_CHANCE = random.SystemRandom().uniform


class Manner(BaseModel):
    """How webhooks are sent from now on; `delay_ms` passes before the first try in every mode.

    `early` has the provider's own answer wait for the delivery, for 2 s at most; `duplicate` sends each twice at once,
    under one id; `shuffled` holds each for a random part of 2 s.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    mode: Mode = "on"
    delay_ms: int = Field(default=0, alias="delayMs", ge=0, le=600_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One webhook and what its receiver said to each try: None where there was no answer."""

    id: str
    provider: str
    type: str
    key: str | None
    at: datetime
    body: bytes
    status_codes: list[int | None] = field(default_factory=list[int | None])

    def shown(self) -> dict[str, Any]:
        """As `GET /sandbox/webhooks` shows it."""
        return {
            "id": self.id,
            "provider": self.provider,
            "type": self.type,
            "key": self.key,
            "at": stamp(self.at),
            "statusCodes": [*self.status_codes],
        }


class Webhooks:
    """Sends to `{url}/{provider}` in the background. Nothing outlives the process, or `forget`.

    `secret` is `whsec_<base64>`; without it, or without a URL, none are sent. `pause` waits for some seconds and is
    False, at once, when the sandbox stops.
    """

    def __init__(
        self,
        *,
        url: str,
        secret: str,
        pause: Callable[[float], Awaitable[bool]],
        clock: Callable[[], datetime] = utc_now,
        chance: Callable[[float, float], float] = _CHANCE,
    ) -> None:
        if url and not secret:
            log.warning("webhooks.no-secret", extra={"keys": {"set": "SANDBOX_WEBHOOK_SECRET"}})
        self.url = url.rstrip("/") if secret else ""
        self.manner = Manner()
        self._key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        self._pause = pause
        self._clock = clock
        self._chance = chance
        self._session: aiohttp.ClientSession | None = None
        self._last: deque[Delivery] = deque(maxlen=_SHOWN)
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Opens the connections' pool."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TRY_S))

    async def stop(self) -> None:
        """Drops what is not delivered yet."""
        dropped = self._drop()
        await asyncio.gather(*dropped, return_exceptions=True)
        if self._session:
            await self._session.close()

    async def announce(self, provider: str, record: Charge | Refund) -> None:
        """Sends what was decided; returns at once unless it is to arrive early."""
        manner = self.manner
        if not self.url or manner.mode == "off":
            return
        delivery = _delivery(provider, record)
        self._last.append(delivery)
        wait = manner.delay_ms / 1000 + (self._chance(0, _SHUFFLED_S) if manner.mode == "shuffled" else 0)
        sent = self._begin(self._deliver(delivery, wait))
        if manner.mode == "duplicate":
            self._begin(self._deliver(delivery, wait))
        if manner.mode == "early":
            await self._await_early(sent)

    def newest(self) -> list[dict[str, Any]]:
        """The last deliveries, newest first."""
        return [delivery.shown() for delivery in reversed(self._last)]

    def forget(self) -> None:
        """Nothing was ever sent, and what is not delivered yet never will be."""
        self._drop()
        self._last.clear()

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def _drop(self) -> list[asyncio.Task[None]]:
        dropped = [*self._under_way]
        for task in dropped:
            task.cancel()
        return dropped

    async def _await_early(self, sent: asyncio.Task[None]) -> None:
        long_enough = asyncio.ensure_future(self._pause(_EARLY_S))
        try:
            await asyncio.wait({sent, long_enough}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            long_enough.cancel()

    async def _deliver(self, delivery: Delivery, wait: float) -> None:
        for seconds in (wait, *_RETRIES_AFTER):
            if not await self._pause(seconds):
                return
            status = await self._try(delivery)
            delivery.status_codes.append(status)
            if status and 200 <= status < 300:
                return
        log.warning("webhook.given-up", extra={"keys": {"id": delivery.id, "type": delivery.type}})

    async def _try(self, delivery: Delivery) -> int | None:
        """The receiver's status. The time is that of the try, by the specification: receivers refuse old ones."""
        assert self._session, "not started"  # noqa: S101  # the lifespan does it
        at = int(self._clock().timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(self._key, delivery.id, at, delivery.body),
        }
        url = f"{self.url}/{delivery.provider}"
        try:
            async with self._session.post(url, data=delivery.body, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return None


def signature(key: bytes, message_id: str, at: int, body: bytes) -> str:
    """The header `webhook-signature`; `at` is in whole seconds since 1970."""
    signed = f"{message_id}.{at}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, sha256)).decode()}"


def _delivery(provider: str, record: Charge | Refund) -> Delivery:
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
    body = json.dumps({"type": kind, "timestamp": stamp(record.at), "data": data}, separators=(",", ":")).encode()
    return Delivery(id=f"msg_{uuid4().hex}", provider=provider, type=kind, key=record.key, at=record.at, body=body)
