"""Two levels, and never a value from before an invalidation that has arrived."""

import asyncio
import random
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
import sqlalchemy as sa
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from chassis import cache as module
from chassis.cache import _MANY, Cache
from chassis.changes.feed import Changes, changes_table
from chassis.db import Database
from chassis.ids import now
from chassis.leases import Leases, leases_table
from chassis.sidecar import Sidecar, SidecarDown
from stack.eventually import eventually
from stack.examples import examples
from stack.fake_sidecar import FakeSidecar
from stack.local import free_port

METADATA = sa.MetaData()
TABLE = changes_table(METADATA)
LEASES = leases_table(METADATA)


class Store(FakeSidecar):
    """Keeps JSON as a store does, counts, takes some turns of the loop, and misbehaves as told."""

    def __init__(self, *, turns: random.Random | None = None) -> None:
        super().__init__()
        self._turns = turns
        self.reads = self.writes = 0
        self.ttls: set[int] = set()
        self.hangs = False

    async def get_state(self, store: str, key: str) -> tuple[Any, str]:
        self.reads += 1
        await self._a_while()
        value, etag = await super().get_state(store, key)
        return (None if value is None else orjson.loads(value)), etag

    async def save_state(self, store: str, key: str, value: Any, *, ttl_seconds: int) -> None:
        self.writes += 1
        self.ttls.add(ttl_seconds)
        await self._a_while()
        await super().save_state(store, key, orjson.dumps(value), ttl_seconds=ttl_seconds)

    async def _a_while(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        for _ in range(self._turns.randint(0, 3) if self._turns else 0):
            await asyncio.sleep(0)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """What is cached: it counts its loads, and each lasts as long as `gate` is shut."""

    def __init__(self, value: Any = "first") -> None:
        self.value = value
        self.loads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self) -> Any:
        self.loads += 1
        value = self.value
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value


def cache_of(store: FakeSidecar, changes: Any = None, **given: Any) -> Cache:
    return Cache(sidecar=store, store="cache", changes=changes, name="things", **given)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def source() -> Source:
    return Source()


# --------------------------------------------------------------------------------------------------------- the levels


async def test_what_was_loaded_is_not_loaded_again(store: Store, source: Source):
    one = cache_of(store)

    assert [await one.get_or_load("a", source) for _ in range(5)] == ["first"] * 5
    assert (source.loads, store.reads) == (1, 1)


@pytest.mark.parametrize("value", [None, 0, "", [], {}, {"a": [1, None]}, False])
async def test_whatever_is_json_is_a_value_on_both_levels(store: Store, value: Any):
    source = Source(value)
    for _ in range(2):
        one = cache_of(store)
        assert [await one.get_or_load("a", source) for _ in range(2)] == [value] * 2
        await settled()

    assert source.loads == 1


async def test_another_replica_finds_it_in_the_store(store: Store, source: Source):
    await cache_of(store).get_or_load("a", source)
    await settled()

    assert await cache_of(store).get_or_load("a", source) == "first"
    await settled()
    assert (source.loads, store.writes, store.ttls) == (1, 2, {1800})  # and renews it there


async def test_caches_and_keys_do_not_meet_in_the_store_and_nothing_of_a_key_stands_there(store: Store):
    keys = ["a", "b", "ada@example.org", "x||y\n" * 50, ""]
    for name in ("things", "others"):
        one = Cache(sidecar=store, store="cache", changes=None, name=name)
        for key in keys:
            assert await one.get_or_load(key, Source([name, key])) == [name, key]
    await settled()

    assert len(store.state) == 2 * len(keys)
    assert all(re.fullmatch(r"cache:(things|others):0:[0-9a-f]{64}", key) for key in store.state)


async def test_memory_keeps_it_for_five_to_ten_minutes_and_not_all_for_as_long(store: Store):
    clock = Clock()
    one = cache_of(store, clock=clock, wall=clock)
    sources = {str(number): Source(number) for number in range(100)}

    async def asked_the_store() -> int:
        before = store.reads
        for key, source in sources.items():
            await one.get_or_load(key, source)
        return store.reads - before

    assert await asked_the_store() == 100
    clock.now += 299
    assert await asked_the_store() == 0
    clock.now += 151
    some = await asked_the_store()
    assert 10 < some < 90
    clock.now += 151
    assert await asked_the_store() >= 100 - some


async def test_an_entry_has_a_time_of_its_own_also_in_a_store_that_knows_no_expiry(store: Store, source: Source):
    clock = Clock()
    for seconds, loads in ((0, 1), (1700, 1), (99, 1), (2, 2)):
        clock.now += seconds
        one = cache_of(store, clock=clock, wall=clock)
        await one.get_or_load("a", source, expires_in=timedelta(minutes=30))
        await settled()
        assert source.loads == loads
    assert await one.get_or_load("a", source, expires_in=timedelta(seconds=20)) == "first"
    with pytest.raises(ValueError, match="at most"):
        await one.get_or_load("a", source, expires_in=timedelta(days=1))


async def test_memory_keeps_it_no_longer_than_its_own_time(store: Store, source: Source):
    clock = Clock()
    one = cache_of(store, clock=clock, wall=clock)
    for seconds, loads in ((0, 1), (19, 1), (2, 2)):
        clock.now += seconds
        await one.get_or_load("a", source, expires_in=timedelta(seconds=20))
        await settled()
        assert source.loads == loads


async def test_without_one_it_slides_half_an_hour_by_half_an_hour_up_to_an_hour(store: Store, source: Source):
    clock = Clock()

    async def asked_after(minutes: float) -> int:
        clock.now += 60 * minutes
        await cache_of(store, clock=clock, wall=clock).get_or_load("a", source)
        await settled()
        return source.loads

    assert [await asked_after(minutes) for minutes in (0, 29, 29)] == [1, 1, 1]  # the last is 58 minutes old
    assert await asked_after(3) == 2
    assert await asked_after(31) == 3


async def test_memory_is_bounded(store: Store):
    one = cache_of(store, l1_entries=10)
    for number in range(100):
        await one.get_or_load(str(number), Source(number))

    assert len(one._l1) == 10
    assert not one._flights
    assert not one._under_way


async def test_every_read_is_counted_by_what_answered(store: Store, source: Source, monkeypatch: pytest.MonkeyPatch):
    counted: list[str] = []
    counter = SimpleNamespace(add=lambda _, labels: counted.append(labels["level"]))  # pyright: ignore[reportUnknownLambdaType]
    monkeypatch.setattr(module, "_reads", counter)
    one = cache_of(store)

    await asyncio.gather(*(one.get_or_load("a", source) for _ in range(2)))
    await settled()
    await one.get_or_load("a", source)
    await cache_of(store).get_or_load("a", source)

    assert sorted(counted) == ["joined", "l1", "l2", "load"]


# ------------------------------------------------------------------------------------------------------- one at a time


async def test_a_thousand_who_ask_at_once_are_one_load(store: Store, source: Source):
    one = cache_of(store)
    source.gate.clear()
    asking = [asyncio.create_task(one.get_or_load("a", source)) for _ in range(1000)]
    await settled()
    source.gate.set()

    assert set(await asyncio.gather(*asking)) == {"first"}
    assert (source.loads, store.reads) == (1, 1)


async def test_keys_do_not_wait_for_each_other(store: Store, source: Source):
    one = cache_of(store)
    source.gate.clear()
    waiting = asyncio.create_task(one.get_or_load("a", source))
    await settled()

    assert await one.get_or_load("b", Source("other")) == "other"
    source.gate.set()
    assert await waiting == "first"


async def test_a_load_that_fails_fails_all_who_wait_and_is_not_kept(store: Store, source: Source):
    one = cache_of(store)
    source.error = LookupError("gone")
    failures = await asyncio.gather(*(one.get_or_load("a", source) for _ in range(10)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [LookupError] * 10
    assert source.loads == 1

    source.error = None
    assert await one.get_or_load("a", source) == "first"
    assert source.loads == 2


@pytest.mark.parametrize("gone", [[0], [0, 1, 2], [0, 1, 2, 3]])
async def test_a_caller_who_goes_cancels_nobody_elses_load(store: Store, source: Source, gone: list[int]):
    one = cache_of(store)
    source.gate.clear()
    asking = [asyncio.create_task(one.get_or_load("a", source)) for _ in range(4)]
    await settled()
    for number in gone:
        asking[number].cancel()
    await settled()
    source.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert [answer for answer in answers if answer == "first"] == ["first"] * (4 - len(gone))
    assert await one.get_or_load("a", source) == "first"
    assert source.loads == 1


async def test_a_load_that_fails_when_all_who_waited_have_gone_troubles_nobody(store: Store, source: Source):
    one = cache_of(store)
    source.gate.clear()
    source.error = LookupError("gone")
    asking = asyncio.create_task(one.get_or_load("a", source))
    await settled()
    asking.cancel()
    await settled()
    source.gate.set()
    await settled()

    source.error = None
    assert await one.get_or_load("a", source) == "first"


# ------------------------------------------------------------------------------------------ the store costs speed only


async def test_without_the_store_values_are_loaded_and_it_is_left_alone_for_a_while(
    store: Store, source: Source, logs: list[Any]
):
    clock = Clock()
    one = cache_of(store, clock=clock)
    store.alive = False

    for number in range(10):
        assert await one.get_or_load(str(number), source) == "first"
        await settled()
    assert (store.reads, store.writes) == (1, 0)
    assert [log["event"] for log in logs] == ["cache.without_store"]

    store.alive = True
    clock.now += 1.9
    await one.get_or_load("x", source)
    assert store.reads == 1
    clock.now += 0.2
    await one.get_or_load("y", source)
    await settled()
    assert (store.reads, store.writes) == (2, 1)


async def test_a_store_that_hangs_costs_three_tenths_of_a_second_once(store: Store, source: Source):
    store.hangs = True
    one = cache_of(store)
    begun = time.monotonic()
    for number in range(5):
        assert await one.get_or_load(str(number), source) == "first"

    assert 0.3 <= time.monotonic() - begun < 0.6
    assert store.reads == 1


async def test_a_store_that_takes_nothing_is_left_alone_too(source: Source):
    class Full(Store):
        async def save_state(self, store: str, key: str, value: Any, *, ttl_seconds: int) -> None:
            await super().save_state(store, key, value, ttl_seconds=ttl_seconds)
            raise SidecarDown(store)

    store = Full()
    one = cache_of(store)
    for number in range(5):
        assert await one.get_or_load(str(number), source) == "first"
        await settled()

    assert (store.reads, store.writes) == (1, 1)


@pytest.mark.parametrize(
    "junk",
    [b"{", b"\xff", b"null", b"7", b'"text"', b"[]", b"{}", b'{"value": 1}', b'{"at": "now", "value": 1}', b'{"at": 1}',
     b'{"at": 1, "value": "ancient"}', b'{"at": 9e15, "value": "from the future"}'],
)  # fmt: skip
async def test_junk_in_the_store_is_loaded_over(store: Store, source: Source, junk: bytes):
    await cache_of(store).get_or_load("a", source)
    await settled()
    [key] = store.state
    store.state[key] = junk

    assert await cache_of(store).get_or_load("a", source) == "first"
    await settled()
    assert source.loads == 2
    assert await cache_of(store).get_or_load("a", source) == "first"
    assert source.loads == 2


async def test_a_value_is_saved_whatever_was_there_with_its_expiry_and_a_refusal_is_told():
    asked: list[Any] = []
    statuses = [204, 500]

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.path, await request.json()))
        return web.Response(status=statuses.pop(0))

    app = web.Application()
    app.router.add_post("/v1.0/state/{store}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    sidecar = Sidecar(port=port, source="test")
    await sidecar.start()

    await sidecar.save_state("cache", "k", {"a": 1}, ttl_seconds=60)
    with pytest.raises(SidecarDown):
        await sidecar.save_state("cache", "k", {"a": 2}, ttl_seconds=60)

    # No ETag and no "first-write": the last one wins.
    assert asked[0] == (
        "POST", "/v1.0/state/cache", [{"key": "k", "value": {"a": 1}, "metadata": {"ttlInSeconds": "60"}}]
    )  # fmt: skip
    await sidecar.stop()
    await runner.cleanup()


# -------------------------------------------------------------------------------------------------------- invalidation


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    await database.start()
    await database.write(METADATA.create_all)
    yield database
    await database.stop()


@asynccontextmanager
async def replicas(db: Database, store: Store, count: int, **given: Any) -> AsyncGenerator[list[Any]]:
    feeds = [Changes(db=db, table=TABLE, leases=Leases(db, LEASES), poll=0.02) for _ in range(count)]
    caches = [cache_of(store, feed, **given) for feed in feeds]
    tasks = [asyncio.create_task(feed.run()) for feed in feeds]
    for feed in feeds:
        await eventually(lambda feed=feed: feed.position is not None, every=0.005)
    yield [SimpleNamespace(cache=cache, feed=feed) for cache, feed in zip(caches, feeds, strict=True)]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def reached(*those: Any, position: int) -> None:
    await eventually(lambda: all(one.feed.position >= position for one in those), every=0.005)


async def test_an_invalidation_reaches_every_replica_and_the_store(db: Database, store: Store, source: Source):
    async with replicas(db, store, 3) as (writer, other, third):
        for one in (writer, other, third):
            assert await one.cache.get_or_load("a/1", source) == "first"
            await settled()
        source.value = "second"
        await db.write(lambda conn: writer.cache.invalidate(conn, "a/"))
        writer.cache.drop("a/")
        await reached(writer, other, third, position=1)

        assert await other.cache.get_or_load("a/1", source) == "second"
        await settled()
        assert await third.cache.get_or_load("a/1", source) == "second"
        assert source.loads == 2
        assert await writer.cache.get_or_load("a/1", source) == "second"
        assert any(key.startswith("cache:things:1:") for key in store.state)


async def test_its_own_writer_sees_a_change_at_once(db: Database, store: Store, source: Source):
    one = cache_of(store, feed := Changes(db=db, table=TABLE, leases=Leases(db, LEASES)))
    feed._position = 0  # it has begun, and from here on it hears nothing
    await one.get_or_load("a", source)
    await settled()
    source.value = "second"
    await db.write(lambda conn: one.invalidate(conn, "a"))
    one.drop("a")

    assert await one.get_or_load("a", source) == "second"


async def test_its_own_writer_believes_no_slow_load_of_a_replica_that_does_not_know_yet(store: Store, source: Source):
    clock, log = Clock(), Log()
    writer, other = (cache_of(store, Feed(log), clock=clock, wall=clock) for _ in range(2))
    source.gate.clear()
    slow = asyncio.create_task(other.get_or_load("a", source))
    await settled()
    source.value = "second"
    log.write("a")
    writer.drop("a")
    clock.now += 30
    source.gate.set()
    assert await slow == "first"
    await settled()

    assert store.writes == 1
    assert await writer.get_or_load("a", source) == "second"


async def test_only_what_begins_with_the_prefix_is_loaded_again(db: Database, store: Store):
    sources = {key: Source() for key in ("a/1", "a/2", "a", "b/1", "b/a/1")}
    async with replicas(db, store, 2) as both:
        for one in both:
            for key, source in sources.items():
                await one.cache.get_or_load(key, source)
                await settled()
        await both[0].cache.invalidate_now("a/")
        await reached(*both, position=1)
        for one in both:
            for key, source in sources.items():
                await one.cache.get_or_load(key, source)
                await settled()

    assert {key: source.loads for key, source in sources.items()} == {"a/1": 2, "a/2": 2, "a": 1, "b/1": 1, "b/a/1": 1}


async def test_an_invalidation_that_is_rolled_back_never_happened(db: Database, store: Store, source: Source):
    async with replicas(db, store, 2) as (writer, other):
        await other.cache.get_or_load("a", source)

        def refused(conn: sa.Connection) -> None:
            writer.cache.invalidate(conn, "a")
            raise LookupError

        with pytest.raises(LookupError):
            await db.write(refused)
        await writer.cache.invalidate_now("b")
        await reached(writer, other, position=1)
        await other.cache.get_or_load("a", source)

    assert source.loads == 1


async def test_caches_of_another_name_are_left_alone(db: Database, store: Store, source: Source):
    async with replicas(db, store, 1) as (one,):
        feed = Changes(db=db, table=TABLE, leases=Leases(db, LEASES))
        await one.cache.get_or_load("a", source)
        await Cache(sidecar=store, store="cache", changes=feed, name="others").invalidate_now("a")
        await reached(one, position=1)
        await one.cache.get_or_load("a", source)

    assert source.loads == 1


async def test_a_replica_that_starts_later_knows_what_was_invalidated(db: Database, store: Store, source: Source):
    """A value is in the store under the generation of before, as a replica that was not reached yet leaves it."""
    async with replicas(db, store, 1) as (first,):
        await first.cache.get_or_load("a", source)
        await settled()
        source.value = "second"
        await first.cache.invalidate_now("a")
        await reached(first, position=1)
    await db.write(lambda conn: conn.execute(sa.update(TABLE).values(created_at=now() - timedelta(minutes=59))))
    async with replicas(db, store, 1) as (late,):
        assert await late.cache.get_or_load("a", source) == "second"


async def test_until_the_feed_has_begun_the_store_is_not_asked(db: Database, store: Store, source: Source):
    one = cache_of(store, Changes(db=db, table=TABLE, leases=Leases(db, LEASES)))

    assert [await one.get_or_load("a", source) for _ in range(2)] == ["first"] * 2
    await settled()
    assert (source.loads, store.reads, store.writes) == (1, 0, 0)


@pytest.mark.parametrize("by_feed", [True, False])
async def test_a_load_from_before_an_invalidation_that_ends_after_it_is_kept_nowhere(
    store: Store, source: Source, *, by_feed: bool
):
    feed = Feed(Log())
    one = cache_of(store, feed)
    source.gate.clear()
    before = asyncio.create_task(one.get_or_load("a", source))
    await settled()
    feed.log.write("a")
    if by_feed:
        feed.deliver()
    else:
        one.drop("a")
    source.value = "second"
    after = asyncio.create_task(one.get_or_load("a", source))  # it must not join the load of before
    await settled()
    source.gate.set()

    assert await after == "second"
    assert await before == "first"  # asked before, answered before
    await settled()
    assert await one.get_or_load("a", source) == "second"
    assert source.loads == 2
    assert [orjson.loads(value)["value"] for value in store.state.values()] == ["second"]


async def test_a_prefix_may_be_longer_than_the_feed_can_keep(db: Database, store: Store, source: Source):
    async with replicas(db, store, 1) as (one,):
        await one.cache.get_or_load("x" * 300, source)
        await one.cache.invalidate_now("x" * 299)
        await one.cache.get_or_load("x" * 300, source)
        await reached(one, position=1)

    assert source.loads == 2


async def test_a_cache_without_a_feed_only_ages_and_drops(store: Store, source: Source):
    one = cache_of(store)
    await one.get_or_load("a", source)
    await settled()
    with pytest.raises(RuntimeError, match="change feed"):
        await one.invalidate_now("a")
    with pytest.raises(RuntimeError, match="change feed"):
        one.invalidate(cast("sa.Connection", None), "a")

    one.drop("a")
    await one.get_or_load("a", source)
    assert source.loads == 2


async def test_of_invalidations_only_so_many_are_remembered_and_for_so_long():
    clock = Clock()
    feed = Feed(Log())
    one = cache_of(Store(), feed, clock=clock, wall=clock)
    source = Source()
    await one.get_or_load("kept", source)
    feed.log.write("")
    feed.deliver()
    clock.now += 7801
    feed.log.write("a")
    feed.deliver()
    assert list(one._marks._by_prefix) == ["a"]

    await one.get_or_load("kept", source)
    assert source.loads == 2
    for number in range(_MANY):
        feed.log.write(f"p{number}")
        feed.deliver()
    assert len(one._marks._by_prefix) < 10
    await one.get_or_load("kept", source)  # too many to tell apart: then it was everything
    assert source.loads == 3


# ------------------------------------------------------------------------------------------- never stale: all sequences


class Log:
    """The table of changes, and what the keys are worth: each write makes them worth more."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float]] = []
        self.versions = {"a/1": 0, "a/2": 0, "b": 0}

    def write(self, prefix: str, at: float = 0) -> None:
        self.rows.append((prefix, at))
        for key in self.versions:
            self.versions[key] += key.startswith(prefix)


class Feed:
    """One replica's tail of the log, moved by hand."""

    def __init__(self, log: Log, wall: Callable[[], float] = lambda: 0.0) -> None:
        self.log = log
        self.position = 0
        self._wall = wall
        self._callback: Callable[[Any], None] = print

    def on_change(self, _topic: str, callback: Callable[[Any], None], *, recent: timedelta) -> None:
        self._callback = callback
        since = self._wall() - recent.total_seconds()
        latest = {prefix: number for number, (prefix, at) in enumerate(self.log.rows, 1) if at > since}
        for prefix, number in latest.items():
            callback(SimpleNamespace(key=prefix, position=number))
        self.position = len(self.log.rows)

    def wake(self) -> None:
        pass

    def deliver(self) -> str | None:
        if self.position == len(self.log.rows):
            return None
        prefix, _ = self.log.rows[self.position]
        self.position += 1
        self._callback(SimpleNamespace(key=prefix, position=self.position))
        return prefix


class World:
    """Replicas over one store and one log. Whoever reads must get at least what had arrived when it began."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  nothing secret
        self.clock = Clock()
        self.log = Log()
        self.store = Store(turns=self._random)
        self.replicas: list[tuple[Cache, Feed, dict[str, int]]] = []
        self.loading: list[asyncio.Event] = []
        self.reading: list[asyncio.Task[None]] = []

    def join(self) -> None:
        feed = Feed(self.log, self.clock)
        cache = cache_of(self.store, feed, clock=self.clock, wall=self.clock)
        self.replicas.append((cache, feed, dict(self.log.versions)))

    def write(self, prefix: str, by: int | None) -> None:
        self.log.write(prefix, self.clock.now)
        if by is not None:
            cache, _, known = self.replicas[by % len(self.replicas)]
            cache.drop(prefix)
            known.update({key: version for key, version in self.log.versions.items() if key.startswith(prefix)})

    def deliver(self, to: int) -> None:
        _, feed, known = self.replicas[to % len(self.replicas)]
        if feed.position < len(self.log.rows):
            feed.deliver()
            versions = dict.fromkeys(known, 0)
            for prefix, _ in self.log.rows[: feed.position]:
                for key in versions:
                    versions[key] += key.startswith(prefix)
            known.update({key: max(known[key], versions[key]) for key in known})

    def read(self, key: str, by: int, *, slow: bool) -> None:
        cache, _, known = self.replicas[by % len(self.replicas)]
        at_least = known[key]

        async def load() -> int:
            version = self.log.versions[key]  # as early as can be: the rest of the load only makes it older
            if slow:
                self.loading.append(gate := asyncio.Event())
                await gate.wait()
            return version

        async def check() -> None:
            assert await cache.get_or_load(key, load) >= at_least

        self.reading.append(asyncio.create_task(check()))

    async def tick(self, seconds: float) -> None:
        if seconds > 60:  # no load lasts that long
            await self.end()
        self.clock.now += seconds

    async def end(self) -> None:
        while not all(task.done() for task in self.reading):
            for gate in self.loading:
                gate.set()
            await asyncio.sleep(0)
        await settled()
        for task in self.reading:
            task.result()
        self.loading, self.reading = [], []

    async def play(self, steps: list[tuple[Any, ...]]) -> None:
        self.join()
        self.join()
        for step in steps:
            match step:
                case "release", int(which):
                    if self.loading:
                        self.loading.pop(which % len(self.loading)).set()
                case "tick", float(seconds):
                    await self.tick(seconds)
                case "read", str(key), int(by), bool(slow):
                    self.read(key, by, slow=slow)
                case name, *arguments:
                    getattr(self, name)(*arguments)
                case _:
                    raise AssertionError(step)
            for _ in range(self._random.choice((0, 1, 5, 30))):
                await asyncio.sleep(0)
        await self.end()


REPLICA, KEY, PREFIX = st.integers(0, 2), st.sampled_from(["a/1", "a/2", "b"]), st.sampled_from(["", "a/", "a/1", "b"])
READ = st.tuples(st.just("read"), KEY, REPLICA, st.booleans())
DELIVER = st.tuples(st.just("deliver"), REPLICA)
STEP = st.one_of(
    *(READ, READ, READ, DELIVER, DELIVER),
    st.tuples(st.just("release"), st.integers(0, 9)),
    st.tuples(st.just("write"), PREFIX, st.none() | REPLICA),
    st.tuples(st.just("tick"), st.sampled_from([0.1, 6.0, 400.0, 2000.0, 8000.0])),
    st.tuples(st.just("join")),
)


@examples(30)
@given(steps=st.lists(STEP, min_size=30, max_size=80), seed=st.integers(0, 1000))
def test_no_stale_value_is_read_once_an_invalidation_has_reached_a_replica(steps: list[Any], seed: int):
    asyncio.run(World(seed).play(steps))
