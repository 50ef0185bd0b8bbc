"""Whatever is committed is heard by every replica, once, in one sequence, however late it was committed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError

from chassis.changes.feed import _PAGE, _READER_HOLDS, Change, Changes, Entry, changes_table
from chassis.changes.relay import _BATCH
from chassis.db import Database
from chassis.ids import now
from chassis.leases import Leases, leases_table
from chassis.retention import throw_out
from stack.eventually import eventually
from stack.postgres import Postgres

T = TypeVar("T")

METADATA = sa.MetaData()
TABLE = changes_table(METADATA)
LEASES = leases_table(METADATA)

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.integration)
on_postgresql = pytest.mark.parametrize("database_url", [POSTGRESQL], indirect=True)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Refused(Exception):
    pass


class Shaky(Database):
    """A database that can be told to be down."""

    down = False
    refused = 0

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        self._look()
        return await super().write(work)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        self._look()
        return await super().read(work)

    def _look(self) -> None:
        if self.down:
            self.refused += 1
            raise OperationalError("SELECT 1", None, ConnectionError())


class Always(Leases):
    """A replica that believes it has the lease, whatever the row says."""

    async def hold(self, name: str, *, seconds: float = 5) -> bool:  # noqa: ARG002  the real one's signature
        return True


@pytest.fixture(scope="module")
def postgres_url(postgres_server: Postgres) -> str:
    return postgres_server.create("changes")


@pytest.fixture(params=["sqlite", POSTGRESQL])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Shaky]:
    database = Shaky(database_url)
    await database.start()
    await database.write(METADATA.drop_all)
    await database.write(METADATA.create_all)
    yield database
    database.down = False
    await database.stop()


def feed_of(db: Database, *, poll: float = 0.05, leases: type[Leases] = Leases) -> Changes:
    return Changes(db=db, table=TABLE, leases=leases(db, LEASES), poll=poll)


@asynccontextmanager
async def running(*feeds: Changes) -> AsyncGenerator[None]:
    tasks = [asyncio.create_task(feed.run()) for feed in feeds]
    for feed in feeds:
        await eventually(lambda feed=feed: feed.position is not None, every=0.005)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def things(*keys: str, tenant: str = "t-1", topic: str = "things", data: Any = None) -> list[Entry]:
    return [Entry(tenant, topic, key, data) for key in keys]


async def tell(db: Database, feed: Changes, *keys: str, **more: Any) -> None:
    await db.write(lambda conn: feed.add_many(conn, things(*keys, **more)))
    feed.wake()


def heard_by(feed: Changes, topic: str = "things", **more: Any) -> list[Change]:
    heard: list[Change] = []
    feed.on_change(topic, heard.append, **more)
    return heard


def keys(changes: list[Change]) -> list[str]:
    return [change.key for change in changes]


async def rows(db: Database) -> list[sa.Row[Any]]:
    return await db.read(lambda conn: list(conn.execute(sa.select(TABLE).order_by(TABLE.c.position))))


# ------------------------------------------------------------------------------------------------------- what is told


async def test_a_committed_change_is_heard_with_all_it_says(db: Database):
    feed = feed_of(db)
    heard = heard_by(feed)
    async with running(feed):
        before = now()
        await db.write(lambda conn: feed.add(conn, tenant="t-1", topic="things", key="a", data={"n": [1, None]}))
        feed.wake()
        [change] = await eventually(lambda: heard, every=0.005)

    assert (change.position, change.tenant, change.topic, change.key) == (1, "t-1", "things", "a")
    assert change.data == {"n": [1, None]}
    assert before <= change.created_at <= now()


async def test_a_change_whose_transaction_failed_is_never_heard(db: Database):
    feed = feed_of(db)
    heard = heard_by(feed)

    def refused(conn: sa.Connection) -> None:
        feed.add(conn, tenant="t-1", topic="things", key="a", data=None)
        raise Refused

    async with running(feed):
        with pytest.raises(Refused):
            await db.write(refused)
        await tell(db, feed, "b")
        await eventually(lambda: heard, every=0.005)

    assert keys(heard) == ["b"]
    assert len(await rows(db)) == 1


async def test_a_change_in_a_transaction_of_its_own_is_heard_without_a_poll(db: Database):
    feed = feed_of(db, poll=60)
    heard = heard_by(feed)
    async with running(feed):
        await feed.tell(Entry("t-1", "things", "a", 1))
        await eventually(lambda: heard, every=0.005)


async def test_more_than_a_batch_at_once_is_heard_whole_and_in_sequence(db: Database):
    feed = feed_of(db)
    heard = heard_by(feed)
    many = [str(number) for number in range(2 * _BATCH + 300)]
    async with running(feed):
        await tell(db, feed, *many)
        await eventually(lambda: len(heard) >= len(many), every=0.01)

    assert keys(heard) == many
    assert [change.position for change in heard] == list(range(1, len(many) + 1))


async def test_of_no_entries_nothing_comes(db: Database):
    feed = feed_of(db)

    await tell(db, feed)

    assert await rows(db) == []


async def test_what_was_added_by_a_process_that_died_before_waking_anybody_is_found(db: Database):
    feed = feed_of(db)
    heard = heard_by(feed)
    async with running(feed):
        await db.write(lambda conn: feed.add(conn, tenant="t-1", topic="things", key="a", data=None))
        await eventually(lambda: heard, every=0.005)


async def test_what_an_earlier_version_left_without_a_position_gets_one(db: Database):
    await db.write(lambda conn: conn.execute(sa.insert(TABLE), [a_row("a"), a_row("b")]))
    async with running(feed_of(db)):
        await eventually(lambda: positions_in(db), every=0.005)
        assert await positions_in(db) == [1, 2]


def a_row(key: str, *, position: int | None = None, age: timedelta = timedelta(0), topic: str = "things") -> Any:
    return {
        "position": position, "tenant": "t-1", "topic": topic, "key": key, "data": "null", "created_at": now() - age,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------ late commits


@on_postgresql
async def test_a_transaction_that_commits_late_gets_the_next_position_and_is_not_skipped(db: Database, engine: Any):
    feed = feed_of(db)
    heard = heard_by(feed)
    with engine.connect() as slow, engine.connect() as quick:
        async with running(feed):
            feed.add(slow, tenant="t-1", topic="things", key="slow", data=None)
            feed.add(quick, tenant="t-1", topic="things", key="quick", data=None)
            quick.commit()
            await eventually(lambda: keys(heard) == ["quick"], every=0.005)
            slow.commit()
            await eventually(lambda: keys(heard) == ["quick", "slow"], every=0.005)

    first, second = await rows(db)
    assert (first.key, second.key) == ("quick", "slow")
    assert first.seq > second.seq
    assert (first.position, second.position) == (1, 2)


@on_postgresql
async def test_two_relays_at_once_give_no_position_twice_and_skip_nothing(db: Database):
    relays = [feed_of(db, poll=0.001, leases=Always) for _ in range(2)]
    listener = feed_of(db, poll=0.001)
    heard = [heard_by(feed) for feed in (*relays, listener)]

    async def writer(name: str) -> None:
        for number in range(40):
            await tell(db, relays[number % 2], f"{name}{number}", f"{name}{number}+")

    async with running(*relays, listener):
        await asyncio.gather(*(writer(name) for name in "abcd"))
        await eventually(lambda: all(len(one) >= 320 for one in heard), every=0.01)

    written = await rows(db)
    assert [row.position for row in written] == [change.position for change in heard[0]]
    assert len({row.position for row in written}) == 320
    assert keys(heard[0]) == keys(heard[1]) == keys(heard[2]) == [row.key for row in written]


# ----------------------------------------------------------------------------------------------------------- replicas


async def test_every_replica_hears_everything_in_one_sequence(db: Database):
    feeds = [feed_of(db) for _ in range(3)]
    heard = [heard_by(feed) for feed in feeds]

    async def writer(number: int) -> None:
        for step in range(10):
            await tell(db, feeds[number], f"{number}-{step}")

    async with running(*feeds):
        await asyncio.gather(*(writer(number) for number in range(3)))
        await eventually(lambda: all(len(one) >= 30 for one in heard), every=0.01)

    assert heard[0] == heard[1] == heard[2]
    assert len(set(keys(heard[0]))) == 30


@on_postgresql
async def test_another_replica_hears_at_once_whoever_of_them_is_the_relay(db: Database):
    relay, other = feed_of(db, poll=60), feed_of(db, poll=60)
    heard = [heard_by(relay), heard_by(other)]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(relay))
        await stack.enter_async_context(running(other))
        await eventually(lambda: listeners(db, 2))
        for number, (writer, key) in enumerate(((relay, "a"), (other, "b"))):
            # As from a process of its own: the writer isn't woken either.
            await db.write(lambda conn, w=writer, k=key: w.add(conn, tenant="t-1", topic="things", key=k, data=None))
            await eventually(lambda n=number: [len(one) for one in heard] == [n + 1, n + 1], every=0.005)


async def listeners(db: Database, count: int) -> bool:
    return len(await pids_of_listeners(db)) == count


async def pids_of_listeners(db: Database) -> list[int]:
    found = sa.text("SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN changes' AND datname = current_database()")
    return await db.read(lambda conn: list(conn.execute(found).scalars()))


@on_postgresql
async def test_a_listening_connection_that_dies_is_opened_again_and_nothing_is_lost(db: Database):
    feed = feed_of(db)
    heard = heard_by(feed)
    async with running(feed):
        [pid] = await eventually(lambda: pids_of_listeners(db))
        await db.read(lambda conn: conn.execute(sa.text(f"SELECT pg_terminate_backend({pid})")))
        await tell(db, feed, "a")
        await eventually(lambda: keys(heard) == ["a"], every=0.005)

        async def another() -> bool:
            return set(await pids_of_listeners(db)) not in ({pid}, set())

        await eventually(another)
        await tell(db, feed, "b")
        await eventually(lambda: keys(heard) == ["a", "b"], every=0.005)


@on_postgresql
async def test_when_the_relay_ends_another_takes_over(db: Database):
    first, second = feed_of(db), feed_of(db)
    heard = heard_by(second)
    async with running(second):
        async with running(first):
            await tell(db, first, "a")
            await eventually(lambda: keys(heard) == ["a"], every=0.005)
        await tell(db, second, "b")
        await eventually(lambda: keys(heard) == ["a", "b"], every=0.005, within=4)  # a lease that runs out takes 5 s


@on_postgresql
async def test_the_lease_of_a_relay_that_died_runs_out(db: Database):
    until = now() + timedelta(seconds=0.7)
    dead = {"name": "changes-relay", "owner": "dead", "held_until": until}
    await db.write(lambda conn: conn.execute(sa.insert(LEASES).values(dead)))
    feed = feed_of(db)
    heard = heard_by(feed)
    async with running(feed):
        await tell(db, feed, "a")
        await eventually(lambda: heard, every=0.005)
        assert now() > until


async def test_a_new_replica_begins_at_the_present(db: Database):
    first, late = feed_of(db), feed_of(db)
    async with running(first):
        await tell(db, first, "a", "b")
        await eventually(lambda: first.position == 2, every=0.005)
        heard = heard_by(late)
        async with running(late):
            assert late.position == 2
            await tell(db, late, "c")
            await eventually(lambda: heard, every=0.005)

    assert keys(heard) == ["c"]


async def test_a_callback_may_begin_with_the_latest_recent_change_of_each_key(db: Database):
    old = timedelta(hours=3)
    history = [("a", 1, old), ("b", 2, old), ("b", 3, timedelta(0)), ("c", 4, timedelta(0)), ("b", 5, timedelta(0))]
    written = [a_row(key, position=position, age=age) for key, position, age in history]
    written.append(a_row("b", position=6, topic="others"))
    await db.write(lambda conn: conn.execute(sa.insert(TABLE), written))
    feed = feed_of(db)
    heard = heard_by(feed, recent=timedelta(hours=2))
    async with running(feed):
        assert [(change.key, change.position) for change in heard] == [("c", 4), ("b", 5)]
        await tell(db, feed, "d")
        await eventually(lambda: len(heard) == 3, every=0.005)

    assert heard[-1].position == 7


async def test_a_callback_that_comes_too_late_is_refused(db: Database):
    feed = feed_of(db)
    async with running(feed):
        with pytest.raises(RuntimeError, match="before run"):
            feed.on_change("things", print)


async def test_a_callback_that_fails_keeps_nobody_else_from_hearing(db: Database):
    feed = feed_of(db)

    def fails(_: Change) -> None:
        raise Refused

    feed.on_change("things", fails)
    heard = heard_by(feed)
    async with running(feed):
        await tell(db, feed, "a", "b")
        await eventually(lambda: keys(heard) == ["a", "b"], every=0.005)


# ------------------------------------------------------------------------------------------------------- live readers


async def test_a_live_reader_gets_its_topic_key_and_tenant_and_no_other(db: Database):
    feed = feed_of(db)
    async with running(feed):
        with (
            feed.subscribe("things") as everything,
            feed.subscribe("things", key="a") as of_key,
            feed.subscribe("things", key="a", tenant="t-2") as of_tenant,
        ):
            await tell(db, feed, "a", topic="others")
            await tell(db, feed, "a", "b")
            await tell(db, feed, "a", tenant="t-2")
            await eventually(lambda: feed.position == 4, every=0.005)
            found = [[(await anext(reader)).position for _ in range(count)]
                     for reader, count in ((everything, 3), (of_key, 2), (of_tenant, 1))]  # fmt: skip

    assert found == [[2, 3, 4], [2, 4], [4]]
    assert not feed._readers


async def test_a_reader_that_is_too_slow_is_ended_and_finds_the_rest_where_it_left(db: Database):
    feed = feed_of(db)
    told = [str(number) for number in range(_READER_HOLDS + 50)]
    async with running(feed):
        with feed.subscribe("things") as slow:
            await tell(db, feed, *told)
            await eventually(lambda: feed.position == len(told), every=0.005)
            assert slow._waiting.qsize() == _READER_HOLDS
            got = [change async for change in slow]
        rest = await feed.since(got[-1].position, tenant="t-1", topic="things")

    assert keys(got) + keys(rest) == told


async def test_a_reader_that_keeps_up_is_never_ended(db: Database):
    feed = feed_of(db)
    told = [str(number) for number in range(_READER_HOLDS + 500)]
    async with running(feed):
        with feed.subscribe("things") as reader:
            await tell(db, feed, *told)
            got = [await anext(reader) for _ in told]

    assert keys(got) == told


async def test_readers_end_when_the_feed_does(db: Database):
    feed = feed_of(db)
    with feed.subscribe("things") as waiting, feed.subscribe("things") as behind:
        async with running(feed):
            task = asyncio.create_task(anext(waiting, None))
            await tell(db, feed, "a")
            assert (await task) is not None
            task = asyncio.create_task(anext(waiting, None))
            await asyncio.sleep(0)
        assert await task is None
        assert keys([change async for change in behind]) == ["a"]


@on_sqlite
async def test_whoever_begins_to_read_when_the_process_leaves_is_not_kept(db: Database):
    feed = feed_of(db)
    waiting = asyncio.create_task(all_of(feed))  # the feed hasn't begun yet
    await asyncio.sleep(0)
    feed.end_readers()
    assert await asyncio.wait_for(waiting, 5) == []

    feed = feed_of(db)
    async with running(feed):
        await tell(db, feed, "a")
        await eventually(lambda: feed.position == 1, every=0.005)
        feed.end_readers()
        with feed.subscribe("things") as late:
            assert [change async for change in late] == []
        assert await asyncio.wait_for(all_of(feed), 5) == []


@on_sqlite
async def test_a_replay_that_ends_because_the_process_leaves_skips_nothing(db: Database):
    feed = feed_of(db)
    told = [str(number) for number in range(2 * _PAGE + 2)]
    async with running(feed), aclosing(feed.follow(tenant="t-1", topic="things", after=0)) as following:
        await tell(db, feed, told[0])
        await eventually(lambda: feed.position == 1, every=0.005)
        got = [await anext(following)]
        await tell(db, feed, *told[1:-1])
        await eventually(lambda: feed.position == len(told) - 1, every=0.005)
        got.append(await anext(following))
        await tell(db, feed, told[-1])  # it waits as a live one, behind a replay of two pages
        await eventually(lambda: feed.position == len(told), every=0.005)
        feed.end_readers()
        got += [change async for change in following]

    assert 1 < len(got) < len(told)
    assert keys(got) == told[: len(got)]


async def all_of(feed: Changes) -> list[Change]:
    async with aclosing(feed.follow(tenant="t-1", topic="things", after=0)) as following:
        return [change async for change in following]


# ------------------------------------------------------------------------------------------------------------- replay


async def test_what_came_since_a_position_can_be_read_again(db: Database):
    feed = feed_of(db)
    async with running(feed):
        await tell(db, feed, "a", "b", "a")
        await tell(db, feed, "a", tenant="t-2")
        await tell(db, feed, "a", topic="others")
        await eventually(lambda: feed.position == 5, every=0.005)

    async def positions(after: int, **more: Any) -> list[int]:
        return [change.position for change in await feed.since(after, tenant="t-1", topic="things", **more)]

    assert await positions(0) == [1, 2, 3]
    assert await positions(0, key="a") == [1, 3]
    assert await positions(1, limit=1) == [2]
    assert await positions(3) == []
    assert await feed.latest() == 5


@pytest.mark.parametrize("after", [0, 7, 3 * _PAGE])
async def test_whoever_follows_hears_all_after_a_position_once_and_without_a_gap(db: Database, after: int):
    """Written to meanwhile, from before the replay until long after it."""
    feed = feed_of(db, poll=0.001)
    total = 4 * _PAGE
    async with running(feed):
        await tell(db, feed, *map(str, range(1, 3 * _PAGE + 1)))

        async def write_on() -> None:
            for number in range(3 * _PAGE + 1, total + 1):
                await tell(db, feed, str(number))

        writing = asyncio.create_task(write_on())
        await eventually(lambda: (feed.position or 0) > 3 * _PAGE, every=0.001)
        got: list[Change] = []
        async with aclosing(feed.follow(tenant="t-1", topic="things", after=after)) as following:
            async for change in following:
                got.append(change)
                if change.position == total:
                    break
        await writing

    assert keys(got) == [str(number) for number in range(after + 1, total + 1)]
    assert not feed._readers


async def test_whoever_follows_from_now_on_hears_nothing_of_before(db: Database):
    feed = feed_of(db)
    async with running(feed):
        await tell(db, feed, "before")
        await eventually(lambda: feed.position == 1, every=0.005)
        async with aclosing(feed.follow(tenant="t-1", topic="things", after=None)) as following:
            first = asyncio.create_task(anext(following))
            await eventually(lambda: feed._readers, every=0.005)
            await tell(db, feed, "after")
            assert (await first).key == "after"


async def test_whoever_follows_after_a_position_that_never_was_hears_what_comes_from_now_on(db: Database):
    """A database that was restored counts on from before what its readers have heard."""
    feed = feed_of(db)
    async with running(feed):
        await tell(db, feed, "before")
        await eventually(lambda: feed.position == 1, every=0.005)
        async with aclosing(feed.follow(tenant="t-1", topic="things", after=1000)) as following:
            first = asyncio.create_task(anext(following))
            await eventually(lambda: feed._readers, every=0.005)
            await tell(db, feed, "after")
            async with asyncio.timeout(10):
                assert (await first).key == "after"


async def test_whoever_follows_before_the_feed_runs_waits_for_it_and_misses_nothing(db: Database):
    feed = feed_of(db)
    async with aclosing(feed.follow(tenant="t-1", topic="things", key="a", after=0)) as following:
        first = asyncio.create_task(anext(following))
        await tell(db, feed, "a", "b", "a")
        async with running(feed):
            assert [(await first).position, (await anext(following)).position] == [1, 3]


# ---------------------------------------------------------------------------------------------------- what goes wrong


async def test_a_database_that_was_down_delays_and_loses_nothing(db: Shaky):
    feed = feed_of(db)
    heard = heard_by(feed)
    db.down = True
    task = asyncio.create_task(feed.run())
    await eventually(lambda: db.refused > 2, every=0.005)
    assert feed.position is None
    db.down = False
    await eventually(lambda: feed.position == 0, every=0.005)
    await tell(db, feed, "a")
    db.down, refused = True, db.refused
    await eventually(lambda: db.refused > refused + 2, every=0.005)
    db.down = False
    await eventually(lambda: keys(heard) == ["a"], every=0.005)
    task.cancel()
    await asyncio.wait({task})


async def test_a_row_that_cannot_be_read_is_passed_over(db: Database):
    feed = feed_of(db)
    heard = heard_by(feed)
    async with running(feed):
        written = [a_row("broken", position=1) | {"data": "{"}, a_row("a", position=2)]
        await db.write(lambda conn: conn.execute(sa.insert(TABLE), written))
        await eventually(lambda: keys(heard) == ["a"], every=0.005)


async def test_old_rows_are_deleted_and_positions_never_go_back(db: Database):
    old = [a_row(str(number), position=number, age=timedelta(days=8)) for number in range(1, _BATCH + 301)]
    await db.write(lambda conn: conn.execute(sa.insert(TABLE), old))
    feed = feed_of(db)

    await throw_out(db, (feed.expiry,))
    assert await positions_in(db) == [_BATCH + 300]

    async with running(feed):
        await tell(db, feed, "a")
        await eventually(lambda: feed.position == _BATCH + 301, every=0.005)


async def positions_in(db: Database) -> list[int]:
    return [row.position for row in await rows(db)]


async def test_what_is_younger_than_seven_days_is_kept(db: Database):
    ages = [(1, 8), (2, 7.1), (3, 6.9), (4, 0)]
    await db.write(
        lambda conn: conn.execute(
            sa.insert(TABLE), [a_row("a", position=position, age=timedelta(days=days)) for position, days in ages]
        )
    )
    await throw_out(db, (feed_of(db).expiry,))

    assert await positions_in(db) == [3, 4]


async def test_no_position_can_be_given_twice(db: Database):
    with pytest.raises(IntegrityError):
        await db.write(lambda conn: conn.execute(sa.insert(TABLE), [a_row("a", position=1), a_row("b", position=1)]))


@on_sqlite
async def test_on_sqlite_no_lease_is_needed_after_a_crash(db: Database):
    dead = {"name": "changes-relay", "owner": "dead", "held_until": now() + timedelta(hours=1)}
    await db.write(lambda conn: conn.execute(sa.insert(LEASES).values(dead)))
    feed = feed_of(db)
    heard = heard_by(feed)
    async with running(feed):
        await tell(db, feed, "a")
        await eventually(lambda: heard, every=0.005)


@on_postgresql
async def test_nobody_is_left_listening_when_the_feed_ends(db: Database, database_url: str):
    feed = feed_of(db)
    async with running(feed):
        await eventually(lambda: listeners(db, 1))
    await eventually(lambda: listeners(db, 0))
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM leases").fetchone() == (0,)
