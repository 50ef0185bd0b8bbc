"""What outside parties send of their own accord: tried a few times in the background, and signed where it has to be."""

import asyncio
import base64
import hmac
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

import aiohttp
from yarl import URL

from sandbox.records import stamp, utc_now

log = logging.getLogger(__name__)

_RETRIES_AFTER = (1.0, 2.0, 4.0, 8.0)  # seconds
_TRY_S = 10.0
_SHOWN = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One message and what its receiver said to each try: None where there was no answer.

    With a `signing_key` it is signed as https://www.standardwebhooks.com has it.
    """

    id: str
    provider: str
    type: str
    key: str | None
    at: datetime
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    content_type: str = "application/json"
    signing_key: bytes | None = field(default=None, repr=False)
    status_codes: list[int | None] = field(default_factory=list[int | None])

    def shown(self) -> dict[str, Any]:
        """For whoever tests; never where it goes, which may hold a secret."""
        return {
            "id": self.id,
            "provider": self.provider,
            "type": self.type,
            "key": self.key,
            "at": stamp(self.at),
            "statusCodes": [*self.status_codes],
        }

    def headers(self, at: int) -> dict[str, str]:
        """Of one try; `at` is in whole seconds since 1970."""
        headers = {"content-type": self.content_type}
        if self.signing_key is None:
            return headers
        return headers | {
            "webhook-id": self.id,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(self.signing_key, self.id, at, self.body),
        }


class Courier:
    """Delivers in the background. Nothing outlives the process, or `forget`.

    `pause` waits for some seconds and is False, at once, when the sandbox stops.
    """

    def __init__(self, *, pause: Callable[[float], Awaitable[bool]], clock: Callable[[], datetime] = utc_now) -> None:
        self._pause = pause
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._last: dict[str, Delivery] = {}
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

    def send(self, deliveries: Sequence[Delivery], *, wait: float) -> asyncio.Task[None]:
        """Sends them after `wait` seconds, each once the one before it has arrived or was given up."""
        for delivery in deliveries:
            self._last[delivery.id] = delivery
        while len(self._last) > _SHOWN:
            del self._last[next(iter(self._last))]
        return self._begin(self._deliver_all(deliveries, wait))

    def newest(self) -> list[dict[str, Any]]:
        """The last deliveries, newest first."""
        return [delivery.shown() for delivery in reversed(self._last.values())]

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

    async def _deliver_all(self, deliveries: Sequence[Delivery], wait: float) -> None:
        for delivery in deliveries:
            await self._deliver(delivery, wait)
            wait = 0

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
        headers = delivery.headers(int(self._clock().timestamp()))
        # As it was given: rewritten, another secret might stand in it.
        url = URL(delivery.url, encoded=True)
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


def signing_key(secret: str) -> bytes:
    """What `whsec_<base64>` stands for. Raises ValueError for a secret that is no base64."""
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
