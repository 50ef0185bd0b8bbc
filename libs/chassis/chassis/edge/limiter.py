"""Rate limits that hold across replicas, with `limits` over the Dapr state store.

A replica reserves a block of a window's permits at a time and hands them out alone: no permit is given twice, and the
store is asked once in a block. What a replica has reserved and not used is lost to the others until the window ends.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import limits
import structlog
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

from chassis.problems import Problem, Unavailable
from chassis.settings import ServiceSettings
from chassis.sidecar import Sidecar, SidecarDown

log = structlog.get_logger()

_BLOCKS = 20  # into how many blocks a window's permits are divided
_TRIES = 2 * _BLOCKS  # at the ETag: each is lost to somebody who got a block, and a window has fewer of them
_STORE_SECONDS = 0.5
_PAUSE_SECONDS = 2.0  # after a failure, in which the store is not asked
_MANY = 10_000  # counters in memory, per rate, before some are thrown out

Clock = Callable[[], float]


@dataclass(kw_only=True)
class _Block:
    """Permits `used + 1` to `end` of one window are ours."""

    window: int = -1
    used: int = 0
    end: int = 0
    reserving: asyncio.Lock = field(default_factory=asyncio.Lock)


class DaprStorage(Storage):
    """Counts for one limit. `incr` gives each hit its number within the window, over all replicas."""

    STORAGE_SCHEME = None

    def __init__(self, *, sidecar: Sidecar, store: str, item: limits.RateLimitItem, wall: Clock) -> None:
        super().__init__()
        self._wall = wall
        self._sidecar = sidecar
        self._store = store
        self._limit = item.amount
        self._expiry = item.get_expiry()
        self._block = max(1, self._limit // _BLOCKS)
        self._blocks: dict[str, _Block] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        return Unavailable

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        window = self._window(expiry)
        block = self._blocks.get(key) or self._new(key, window)
        if not self._has(block, window, amount):
            async with block.reserving:
                window = self._window(expiry)  # it may have ended meanwhile, and the next one have its block already
                if not self._has(block, window, amount):
                    await self._reserve(key, block, window, expiry)
        block.used += amount
        return block.used

    def _has(self, block: _Block, window: int, amount: int) -> bool:
        """Whether no word of the store is needed; it has none left to give once the limit is reached."""
        return block.window == window and (block.used + amount <= block.end or block.end >= self._limit)

    def _new(self, key: str, window: int) -> _Block:
        if len(self._blocks) >= _MANY:
            current = [(key, block) for key, block in self._blocks.items() if block.window == window]
            self._blocks = dict(current[-_MANY // 2 :])  # the oldest go: what they had reserved is lost, no more
        return self._blocks.setdefault(key, _Block())

    async def _reserve(self, key: str, block: _Block, window: int, expiry: int) -> None:
        name = f"rate:{hashlib.sha256(key.encode()).hexdigest()}:{expiry}:{window}"
        for _ in range(_TRIES):
            used, etag = await self._sidecar.get_state(self._store, name)
            begin = int(used or 0)
            end = min(begin + self._block, self._limit)
            if begin >= self._limit or await self._save(name, end, etag, expiry):
                block.window, block.used, block.end = window, begin, end
                return
        raise SidecarDown(self._store)

    async def _save(self, name: str, end: int, etag: str, expiry: int) -> bool:
        if etag:
            return await self._sidecar.update_state(self._store, name, end, etag, ttl_seconds=2 * expiry)
        return await self._sidecar.insert_state(self._store, name, end, ttl_seconds=2 * expiry)

    async def get(self, key: str) -> int:
        block = self._blocks.get(key)
        return block.used if block and block.window == self._window(self._expiry) else 0

    async def get_expiry(self, key: str) -> float:  # noqa: ARG002  windows begin and end alike for every key
        return float((self._window(self._expiry) + 1) * self._expiry)

    async def check(self) -> bool:
        return self._sidecar.alive

    async def reset(self) -> int | None:
        raise NotImplementedError("a state store can't list its keys; windows end by themselves")

    async def clear(self, key: str) -> None:
        self._blocks.pop(key, None)

    def _window(self, expiry: int) -> int:
        """Counted from the epoch, so that replicas agree."""
        return int(self._wall() // expiry)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`remaining` permits of `limit` per `window` seconds, as far as this replica knows; `reset` seconds to go."""

    allowed: bool
    limit: int
    window: int
    remaining: int
    reset: int

    @property
    def headers(self) -> dict[str, str]:
        """draft-ietf-httpapi-ratelimit-headers."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={self.window}',
            "RateLimit": f'"default";r={self.remaining};t={self.reset}',
        }

    def refusal(self) -> Problem:
        return Problem(
            status=429,
            error_type="rate-limited",
            title="Too many requests",
            detail=f"At most {self.limit} in {self.window} s; try again in {self.reset} s.",
            headers={"Retry-After": str(self.reset), **self.headers},
        )


class Limiter:
    """`wall` says which window it is; `clock`, which never goes back, when the store may be asked again."""

    def __init__(
        self,
        *,
        sidecar: Sidecar,
        settings: ServiceSettings,
        wall: Clock = time.time,
        clock: Clock = time.monotonic,
    ) -> None:
        self._wall = wall
        self._clock = clock
        self._sidecar = sidecar
        self._store = settings.rate_limit_store
        self._open = settings.rate_limit_without_store == "open"
        self._default = settings.rate_limit
        self._by_route: Mapping[str, str] = settings.rate_limits
        self._limiters: dict[str, tuple[limits.RateLimitItem, FixedWindowRateLimiter]] = {}
        self._failed_at = -math.inf

    async def admit(self, route: str, *who: str) -> Verdict | None:
        """One request of `who`. None where there is no limit, or none that could be asked and we fail open."""
        rate = self._by_route.get(route, self._default)
        if not rate:
            return None
        item, limiter = self._limiters.get(rate) or self._made(rate)
        if self._clock() - self._failed_at < _PAUSE_SECONDS:
            return self._without_store()
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                allowed = await limiter.hit(item, route, *who)
        except (Unavailable, TimeoutError, OSError, ValueError) as error:  # the last: what it says is no number
            self._failed_at = self._clock()
            log.warning("limiter.without_store", failing="open" if self._open else "closed", error=type(error).__name__)
            return self._without_store()
        stats = await limiter.get_window_stats(item, route, *who)
        return Verdict(
            allowed=allowed,
            limit=item.amount,
            window=item.get_expiry(),
            remaining=max(0, stats.remaining),
            reset=max(1, math.ceil(stats.reset_time - self._wall())),
        )

    def _made(self, rate: str) -> tuple[limits.RateLimitItem, FixedWindowRateLimiter]:
        item = limits.parse(rate)
        storage = DaprStorage(sidecar=self._sidecar, store=self._store, item=item, wall=self._wall)
        return self._limiters.setdefault(rate, (item, FixedWindowRateLimiter(cast("Storage", storage))))

    def _without_store(self) -> None:
        if not self._open:
            raise Unavailable("rate-limiter")
