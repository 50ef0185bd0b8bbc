"""The two-level cache: this process's memory, and a Dapr state store that all replicas share.

An invalidation is a change of the change feed whose key is a prefix. It reaches every replica, and its position there
is from then on the generation of all keys with that prefix: part of the second level's key, so that what was stored
before is never read again. The rule by which no stale value is read, whichever replicas meet: what is stored under a
generation was loaded after its writer had seen that position. Generations that differ (a replica has forgotten an
old one) cost a load and nothing else.

An entry has a time of its own, counted from its load. One without slides: it is gone half an hour after it was last
asked for, and is loaded anew after an hour however often that was. Memory keeps either for ten minutes at most, so that
whoever goes on asking goes on renewing it in the store.

Values are JSON-able and shared by whoever reads them: nobody may change one.
"""

import asyncio
import hashlib
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar, cast

import sqlalchemy as sa
import structlog
from cachetools import TLRUCache

from chassis.changes.feed import Change, Changes, Entry
from chassis.problems import Unavailable
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks
from chassis.telemetry import meter

log = structlog.get_logger()

T = TypeVar("T")
Clock = Callable[[], float]

_SLIDING = timedelta(minutes=30)
_STORE_SECONDS = 0.3
_PAUSE_SECONDS = 2.0  # after a failure, in which the store is not asked
_SKEW_SECONDS = 5.0  # by which replicas' clocks may differ
_PREFIX = 128  # characters that the feed keeps; a shorter prefix only covers more
_MANY = 50_000  # prefixes remembered one by one
_NO_STORE = (Unavailable, TimeoutError, OSError)

_reads = meter.create_counter(
    "cache.reads", description="By cache and by what answered: l1, l2, load, or one under way"
)


class Cache:
    """`name` is this cache's own among the service's. Keys begin with their tenant and a colon, where values differ by
    tenant: by that `chassis.cache_clear` finds them.

    Without `changes` entries only age. `clock` never goes back and says what expires; `wall` is what replicas share.
    """

    def __init__(
        self,
        *,
        sidecar: Sidecar,
        store: str,
        changes: Changes | None,
        name: str,
        l1_seconds: float = 300,
        longest_seconds: float = 3600,
        l1_entries: int = 10_000,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
    ) -> None:
        self._sidecar = sidecar
        self._store = store
        self._changes = changes
        self.name = name
        self._topic = f"cache:{name}"
        self._longest = longest_seconds
        self._clock = clock
        self._wall = wall
        self._failed_at = -math.inf
        # Between once and twice the time: what was loaded together does not expire together.
        self._l1: TLRUCache[str, _Kept] = TLRUCache(
            l1_entries,
            ttu=lambda _key, kept, at: at + min(kept.seconds, l1_seconds * random.uniform(1, 2)),  # noqa: S311  no secret
            timer=clock,
        )
        self._flights: dict[str, _Flight] = {}
        self._under_way: set[asyncio.Task[Any]] = set()
        self._saving = Tasks()
        self._labels = {level: {"cache": name, "level": level} for level in ("l1", "l2", "load", "joined")}
        # Long enough that everything an invalidation was about has expired on both levels, wherever it was kept.
        remembered = 2 * (longest_seconds + l1_seconds)
        self._marks = _Marks(seconds=remembered, clock=clock)
        if changes is not None:
            changes.on_change(self._topic, self._on_change, recent=timedelta(seconds=remembered))

    async def get_or_load(
        self, key: str, load: Callable[[], Awaitable[T]], *, expires_in: timedelta | None = None
    ) -> T:
        """The value, from the nearest level that has it, else by `load`: once for all who ask meanwhile.

        `expires_in` counts from its load; without, half an hour from when it was last asked for. None is a value too.
        What `load` raises, everybody who waited for it gets, and it is not kept.
        """
        if expires_in is not None and expires_in.total_seconds() > self._longest:
            raise ValueError(f"an entry of this cache lives for {self._longest} s at most")
        newest = self._marks.of(key).stamp
        if (kept := self._kept(key)) is not None and newest <= kept.stamp:
            self._count("l1")
            return cast("T", kept.value)
        flight = self._flights.get(key)
        if flight is None or flight.stamp < newest:  # one that began before an invalidation is not for us
            flight = self._take_off(key, load, expires_in)
        else:
            self._count("joined")
        await asyncio.wait({flight.task})  # a caller who is cancelled cancels nobody else's load
        return cast("T", flight.task.result())

    def invalidate(self, conn: sa.Connection, prefix: str, *, tenant: str = "") -> None:
        """Within the transaction of a change: whatever begins with `prefix` is to be read no more, by any replica.

        After the commit, call `drop`: so its own writer sees the change at once, and others as soon as they can.
        """
        if self._changes is None:
            raise RuntimeError("a cache without a change feed can't be invalidated")
        self._changes.add(conn, tenant=tenant, topic=self._topic, key=prefix[:_PREFIX], data=None)

    def drop(self, prefix: str) -> None:
        """Forget here what begins with `prefix`, now; and wake the feed, which tells the others."""
        self._marks.add(prefix[:_PREFIX], dropped_at=self._wall())
        if self._changes is not None:
            self._changes.wake()

    async def invalidate_now(self, prefix: str, *, tenant: str = "") -> None:
        """`invalidate` and `drop`, for a change that is not in this database."""
        if self._changes is None:
            raise RuntimeError("a cache without a change feed can't be invalidated")
        await self._changes.tell(Entry(tenant, self._topic, prefix[:_PREFIX], None))
        self.drop(prefix)

    def _on_change(self, change: Change) -> None:
        self._marks.add(change.key, position=change.position)

    def _kept(self, key: str) -> "_Kept | None":
        try:
            return self._l1[key]
        except KeyError:
            return None

    def _count(self, level: str) -> None:
        _reads.add(1, self._labels[level])

    # --- one load at a time ---

    def _take_off(self, key: str, load: Callable[[], Awaitable[Any]], expires_in: timedelta | None) -> "_Flight":
        mark = self._marks.of(key)
        task = asyncio.create_task(self._fly(key, load, mark, expires_in), name="cache-load")
        flight = _Flight(stamp=mark.stamp, task=task)
        self._flights[key] = flight
        self._under_way.add(task)
        task.add_done_callback(lambda _: self._landed(key, flight))
        return flight

    def _landed(self, key: str, flight: "_Flight") -> None:
        self._under_way.discard(flight.task)
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.task.cancelled():
            flight.task.exception()  # seen, also where all who asked have gone

    async def _fly(
        self, key: str, load: Callable[[], Awaitable[Any]], mark: "_Mark", expires_in: timedelta | None
    ) -> Any:
        name = f"{self._topic}:{mark.position}:{hashlib.sha256(key.encode()).hexdigest()}"
        stored = await self._stored(name, mark)
        self._count("load" if stored is None else "l2")
        entry = stored or {"at": self._wall(), "value": await load()}
        if stored is None or expires_in is None:
            entry = {**entry, "until": self._wall() + (expires_in or _SLIDING).total_seconds()}
        if self._marks.of(key).stamp <= mark.stamp:  # else it was invalidated meanwhile, and may be what was before
            self._l1[key] = _Kept(stamp=mark.stamp, value=entry["value"], seconds=entry["until"] - self._wall())
            if entry is not stored:
                self._saving.spawn(self._save(name, entry), name="cache-save")
        return entry["value"]

    # --- the second level: down, slow or holding junk, it costs speed and nothing else ---

    async def _stored(self, name: str, mark: "_Mark") -> dict[str, Any] | None:
        """`{at, until, value}`, where `at` is when its load began; None where there is none that may be used."""
        if not self._may_ask():
            return None
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                entry, _ = await self._sidecar.get_state(self._store, name)
        except _NO_STORE as error:
            self._pause(error)
            return None
        except ValueError:  # no JSON
            return None
        return cast("dict[str, Any]", entry) if self._is_good(entry, mark) else None

    def _is_good(self, entry: Any, mark: "_Mark") -> bool:
        match entry:
            case {"at": float() | int() as at, "until": float() | int() as until, "value": _}:
                # What was dropped here has its new generation only when the feed brings it. Some stores know no TTL.
                wall = self._wall()
                oldest = max(mark.dropped_at, wall - self._longest)
                return oldest < at - _SKEW_SECONDS and at <= wall + _SKEW_SECONDS and wall < until
            case _:
                return False

    async def _save(self, name: str, entry: dict[str, Any]) -> None:
        if not self._may_ask():
            return
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                seconds = max(1, math.ceil(entry["until"] - self._wall()))
                await self._sidecar.save_state(self._store, name, entry, ttl_seconds=seconds)
        except _NO_STORE as error:
            self._pause(error)

    def _may_ask(self) -> bool:
        """Not while the feed hasn't begun: what was invalidated lately isn't known yet."""
        known = self._changes is None or self._changes.position is not None
        return known and self._clock() - self._failed_at >= _PAUSE_SECONDS

    def _pause(self, error: Exception) -> None:
        if self._clock() - self._failed_at >= _PAUSE_SECONDS:
            log.warning("cache.without_store", cache=self.name, error=type(error).__name__)
        self._failed_at = self._clock()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """A value of the first level, for so many seconds; good as long as no mark of its key is younger than `stamp`."""

    stamp: int
    value: Any
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Flight:
    """One load that is under way. Whoever asks after a mark younger than `stamp` needs another one."""

    stamp: int
    task: asyncio.Task[Any]


class _Mark(NamedTuple):
    """What was last invalidated under a prefix: by this process's count, by the feed, and by its own wall clock."""

    stamp: int = 0
    position: int = 0
    dropped_at: float = -math.inf

    def and_also(self, other: "_Mark") -> "_Mark":
        return _Mark(
            stamp=max(self.stamp, other.stamp),
            position=max(self.position, other.position),
            dropped_at=max(self.dropped_at, other.dropped_at),
        )


class _Marks:
    """The invalidations of the last `seconds`, by prefix. Beyond a number of prefixes they become one that covers
    everything: that empties the cache here, and is right."""

    def __init__(self, *, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._stamp = 0
        self._everything = _Mark()
        self._by_prefix: dict[str, tuple[float, _Mark]] = {}  # the oldest first
        self._lengths: Counter[int] = Counter()

    def of(self, key: str) -> _Mark:
        mark = self._everything
        for length in self._lengths:
            if length <= len(key) and (found := self._by_prefix.get(key[:length])):
                mark = mark.and_also(found[1])
        return mark

    def add(self, prefix: str, *, position: int = 0, dropped_at: float = -math.inf) -> None:
        self._stamp += 1
        before = self._pop(prefix)
        mark = _Mark(self._stamp, position, dropped_at).and_also(before)
        self._by_prefix[prefix] = (self._clock(), mark)
        self._lengths[len(prefix)] += 1
        self._forget()

    def _pop(self, prefix: str) -> _Mark:
        if (found := self._by_prefix.pop(prefix, None)) is None:
            return _Mark()
        self._lengths[len(prefix)] -= 1
        if not self._lengths[len(prefix)]:
            del self._lengths[len(prefix)]
        return found[1]

    def _forget(self) -> None:
        long_ago = self._clock() - self._seconds
        for prefix in [one for one, _ in takewhile(lambda item: item[1][0] < long_ago, self._by_prefix.items())]:
            self._pop(prefix)
        if len(self._by_prefix) > _MANY:
            for _, mark in self._by_prefix.values():
                self._everything = self._everything.and_also(mark)
            self._by_prefix.clear()
            self._lengths.clear()
