"""Events leave in the sequence of their commits, once each if all goes well, and at least once if not."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from chassis.db import Database
from chassis.events import Event
from chassis.ids import new_id, now
from chassis.leases import Leases
from chassis.outbox import Outbox
from chassis.retention import throw_out
from chassis.sidecar import SidecarDown
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar
from stack.postgres import Postgres


class Refused(Exception):
    pass


class ThingMade(Event):
    topic: ClassVar[str] = "things"
    type: ClassVar[str] = "thing.made.v1"

    thing_name: str = "a"


class Broker(FakeSidecar):
    """Keeps each bulk; refuses single events by their aggregate, or everything."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = True
        self.refused: set[str] = set()
        self.bulks: list[list[tuple[str, int]]] = []
        self.asked = 0

    async def publish(self, pubsub: str, topic: str, events: list[dict[str, Any]]) -> dict[str, str]:
        self.asked += 1
        if not self.alive:
            raise SidecarDown("broker")
        failed = {event["id"]: "too big" for event in events if event["subject"] in self.refused}
        taken = [event for event in events if event["id"] not in failed]
        if taken:
            self.bulks.append([(event["subject"], event["data"]["version"]) for event in taken])
        await super().publish(pubsub, topic, taken)
        return failed

    def versions(self, aggregate: str) -> list[int]:
        return [event["data"]["version"] for event in self.published if event["subject"] == aggregate]


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def outbox(db: Database, metadata: sa.MetaData, broker: Broker) -> Outbox:
    return relay_of(db, metadata, broker)


@pytest.fixture
def table(metadata: sa.MetaData) -> sa.Table:
    return metadata.tables["outbox"]


def relay_of(db: Database, metadata: sa.MetaData, broker: Broker) -> Outbox:
    leases = Leases(db, metadata.tables["leases"])
    return Outbox(db=db, table=metadata.tables["outbox"], leases=leases, sidecar=broker, pubsub="pubsub")


@asynccontextmanager
async def running(outbox: Outbox) -> AsyncGenerator[None]:
    task = asyncio.create_task(outbox.run())
    yield
    task.cancel()
    await asyncio.wait({task})


async def announce(db: Database, outbox: Outbox, *facts: tuple[str, int]) -> None:
    def work(conn: sa.Connection) -> None:
        for aggregate, version in facts:
            whose = {"tenant": "t-1", "tenant_name": "Kötter ☕"}
            outbox.add(conn, ThingMade(version=version), **whose, aggregate_id=aggregate, parent="00-ab-cd-01")

    await db.write(work)
    outbox.wake()


async def rows(db: Database, table: sa.Table) -> list[sa.Row[Any]]:
    return await db.read(lambda conn: list(conn.execute(sa.select(table).order_by(table.c.seq))))


async def all_published(db: Database, table: sa.Table) -> bool:
    return all(row.published_at for row in await rows(db, table))


async def test_an_event_leaves_as_a_whole_cloud_event_under_its_rows_id(
    db: Database, outbox: Outbox, broker: Broker, table: sa.Table
):
    await announce(db, outbox, ("a", 1))
    async with running(outbox):
        await eventually(lambda: all_published(db, table), every=0.005)

    [row] = await rows(db, table)
    [event] = broker.published
    assert event == {
        "specversion": "1.0",
        "id": row.event_id,
        "source": "test",
        "type": "thing.made.v1",
        "subject": "a",
        "time": row.created_at.isoformat(),
        "datacontenttype": "application/json",
        "tenantid": "t-1",
        "tenantname": "Kötter ☕",
        "traceid": "00-ab-cd-01",
        "traceparent": "00-ab-cd-01",
        "data": {"version": 1, "thingName": "a"},
    }


async def test_of_an_aggregate_at_most_one_is_in_a_bulk_and_they_leave_in_sequence(
    db: Database, outbox: Outbox, broker: Broker, table: sa.Table
):
    await announce(db, outbox, ("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 2), ("c", 1))
    async with running(outbox):
        await eventually(lambda: all_published(db, table), every=0.005)

    assert broker.bulks == [[("a", 1), ("b", 1), ("c", 1)], [("a", 2), ("b", 2)], [("a", 3)]]


async def test_an_event_of_a_transaction_that_failed_is_never_published(
    db: Database, outbox: Outbox, broker: Broker, table: sa.Table
):
    def refused(conn: sa.Connection) -> None:
        outbox.add(conn, ThingMade(version=1), tenant="t-1", aggregate_id="a", parent="")
        raise Refused

    with pytest.raises(Refused):
        await db.write(refused)
    await announce(db, outbox, ("b", 1))
    async with running(outbox):
        await eventually(lambda: all_published(db, table), every=0.005)

    assert broker.bulks == [[("b", 1)]]


@pytest.mark.integration
async def test_its_first_hundred_are_found_without_a_look_at_the_rest(
    postgres_server: Postgres, metadata: sa.MetaData, broker: Broker
):
    """Whatever PostgreSQL knows of the table: it read all that waited, and sorted it, for each hundred."""
    db = Database(postgres_server.create(new_id()))
    await db.write(metadata.create_all)
    outbox = relay_of(db, metadata, broker)
    events = {f"t-{number}": ThingMade(version=1) for number in range(5000)}
    await db.write(lambda conn: outbox.add_all(conn, events, tenant="t-1", parent="00-ab-cd-01"))

    first = outbox._select.params(at=now())  # pyright: ignore[reportPrivateUsage]
    query = str(first.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
    explain = sa.text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")
    plan = await db.read(lambda conn: conn.execute(explain).scalar_one()[0]["Plan"])
    await db.stop()

    assert (plan["Plans"][0]["Node Type"], plan["Plans"][0]["Actual Rows"]) == ("Index Scan", 100)


async def test_a_broker_that_is_down_loses_nothing_and_is_served_when_it_is_back(
    db: Database, outbox: Outbox, broker: Broker, table: sa.Table
):
    broker.alive = False
    await announce(db, outbox, ("a", 1), ("b", 1), ("a", 2))
    async with running(outbox):
        await eventually(lambda: broker.asked, every=0.005)
        waiting = await rows(db, table)
        broker.alive = True
        await eventually(lambda: all_published(db, table), every=0.005)

    assert [row.attempts for row in waiting] == [0, 0, 0], "nobody's fault, nobody's attempt"
    assert (broker.versions("a"), broker.versions("b")) == ([1, 2], [1])


async def test_a_refused_event_parks_its_own_aggregate_and_goes_out_later(
    db: Database, outbox: Outbox, broker: Broker, table: sa.Table
):
    broker.refused = {"bad"}
    await announce(db, outbox, ("bad", 1), ("bad", 2), ("good", 1), ("good", 2), ("fine", 1))
    async with running(outbox):
        await eventually(lambda: broker.versions("good") == [1, 2], every=0.005)
        parked, behind, *_ = await rows(db, table)
        assert (parked.attempts, parked.error, parked.published_at) == (1, "too big", None)
        assert timedelta(0) < parked.parked_until - now() <= timedelta(seconds=1)
        assert (behind.attempts, behind.published_at) == (0, None)

        broker.refused = set()
        await db.write(lambda conn: conn.execute(sa.update(table).values(parked_until=now() - timedelta(seconds=1))))
        outbox.wake()
        await eventually(lambda: all_published(db, table), every=0.005)

    assert broker.versions("bad") == [1, 2]


async def test_each_further_refusal_parks_longer_and_never_for_more_than_five_minutes(
    db: Database, outbox: Outbox, broker: Broker, table: sa.Table
):
    broker.refused = {"bad"}
    await announce(db, outbox, ("bad", 1))
    for attempts, longest in ((4, timedelta(seconds=16)), (40, timedelta(seconds=30))):
        values = {"attempts": attempts, "parked_until": None}
        await db.write(lambda conn, values=values: conn.execute(sa.update(table).values(values)))
        await outbox._publish_waiting()  # pyright: ignore[reportPrivateUsage]

        [row] = await rows(db, table)
        assert row.attempts == attempts + 1
        assert longest - timedelta(seconds=5) < row.parked_until - now() <= longest


async def test_killed_between_publishing_and_marking_it_publishes_again_under_the_same_id(
    db: Database, outbox: Outbox, broker: Broker, table: sa.Table
):
    await announce(db, outbox, ("a", 1))
    async with running(outbox):
        await eventually(lambda: all_published(db, table), every=0.005)
    await db.write(lambda conn: conn.execute(sa.update(table).values(published_at=None)))  # as the kill leaves it

    async with running(outbox):
        await eventually(lambda: all_published(db, table), every=0.005)

    first, again = broker.published
    assert first == again


async def test_a_second_relay_stands_by_until_the_lease_of_the_first_ends(
    db: Database, metadata: sa.MetaData, outbox: Outbox, table: sa.Table
):
    db.exclusive = False  # as PostgreSQL's is
    mine, other = Broker(), Leases(db, metadata.tables["leases"])
    standing_by = relay_of(db, metadata, mine)
    assert await other.hold("outbox-relay", seconds=60)
    await announce(db, standing_by, ("a", 1))
    async with running(standing_by):
        await eventually(lambda: not standing_by._wakeup._woken.is_set(), every=0.005)  # pyright: ignore[reportPrivateUsage]
        await db.write(lambda conn: conn.execute(sa.select(1)))  # queued behind its try for the lease
        assert mine.asked == 0

        ended = sa.update(metadata.tables["leases"]).values(held_until=now() - timedelta(seconds=1))
        await db.write(lambda conn: conn.execute(ended))
        standing_by.wake()
        await eventually(lambda: all_published(db, table), every=0.005)

    assert mine.bulks == [[("a", 1)]]
    assert outbox is not standing_by


async def test_what_was_published_more_than_seven_days_ago_is_thrown_out(db: Database, outbox: Outbox, table: sa.Table):
    await announce(db, outbox, ("old", 1), ("young", 1), ("unpublished", 1))

    def age(conn: sa.Connection) -> None:
        for aggregate, days in (("old", 8), ("young", 6)):
            at = now() - timedelta(days=days)
            conn.execute(sa.update(table).where(table.c.aggregate_id == aggregate).values(published_at=at))

    await db.write(age)
    await throw_out(db, (outbox.expiry,))

    assert [row.aggregate_id for row in await rows(db, table)] == ["young", "unpublished"]


async def test_how_much_waits_and_for_how_long_are_figures(
    db: Database, outbox: Outbox, table: sa.Table, points: Callable[[str], list[Any]]
):
    def figure(name: str) -> float:
        return points(name)[0].value

    await announce(db, outbox, ("a", 1), ("b", 1))
    await db.write(lambda conn: conn.execute(sa.update(table).values(created_at=now() - timedelta(hours=1))))
    await db.read(outbox.figures)
    assert figure("outbox_waiting") == 2
    assert figure("outbox_oldest_seconds") == pytest.approx(3600, abs=60)

    async with running(outbox):
        await eventually(lambda: all_published(db, table), every=0.005)
    await db.read(outbox.figures)
    assert (figure("outbox_waiting"), figure("outbox_oldest_seconds")) == (0, 0)
