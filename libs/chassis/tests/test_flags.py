"""What is set: in memory, in a service's own table, and on every replica the same."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from chassis.changes.feed import Changes, changes_table
from chassis.db import Database
from chassis.events import consume
from chassis.flags.memory import Flags, Setting, owner
from chassis.flags.rules import is_among
from chassis.flags.snapshot import Snapshot, snapshot_table
from chassis.leases import Leases, leases_table
from chassis.lifespan import Lifespan
from chassis.sidecar import Answer
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar

METADATA = sa.MetaData()
CHANGES, LEASES, SNAPSHOT = changes_table(METADATA), leases_table(METADATA), snapshot_table(METADATA)
ASK = "backoffice-service/settings-snapshot"
KEY = "Features:new-menu"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.start()
    await database.write(METADATA.create_all)
    yield database
    await database.stop()


class Replica:
    """One process of a service, as far as settings go."""

    def __init__(self, db: Database, sidecar: FakeSidecar) -> None:
        self.flags = Flags()
        self.changes = Changes(db=db, table=CHANGES, leases=Leases(db, LEASES), poll=0.02)
        self.snapshot = Snapshot(flags=self.flags, db=db, table=SNAPSHOT, changes=self.changes, sidecar=sidecar)

    def value(self, tenant: str = "acme", key: str = KEY) -> Any:
        return self.flags.value(key, tenant=tenant, default="default")

    async def take(self, version: Any, value: Any, *, key: str = KEY, tenant: str = "acme", **more: Any) -> str:
        """Dapr's answer for the event."""
        data = {"tenant": tenant, "key": key, "version": version, "value": value}
        event = {"id": "e-1", "type": "setting.changed.v1", "source": "backoffice-service", "data": data} | more
        return (await consume("settings", event, self.snapshot.take))["status"]


@asynccontextmanager
async def running(db: Database, *sidecars: FakeSidecar, asks: bool = True) -> AsyncGenerator[list[Replica]]:
    async with AsyncExitStack() as stack:
        replicas: list[Replica] = []
        for sidecar in sidecars:
            lifespan = await stack.enter_async_context(Lifespan())
            replica = Replica(db, sidecar)
            await replica.snapshot.load()
            lifespan.loop(replica.changes.run(), name="changes")
            if asks:
                lifespan.loop(replica.snapshot.run(), name="settings")
            replicas.append(replica)
        yield replicas


def page(*items: Setting, configured: Any = None, following: Any = None) -> Answer:
    told = [item._asdict() for item in items]
    return Answer(status=200, data={"items": told, "next": following, "configured": configured or {}})


# --- in memory ---


def test_an_older_version_never_overwrites_a_newer_one():
    flags = Flags()
    for version in (2, 1, 2):
        flags.put(Setting("acme", KEY, version, f"version {version}"))

    assert flags.value(KEY, tenant="acme") == "version 2"
    assert flags.value(KEY, tenant="other") is None


def test_what_is_not_set_is_as_configured_and_else_the_default():
    flags = Flags()
    flags.configured = {KEY: "configured"}
    assert flags.value(KEY, tenant="acme", default="default") == "configured"
    assert flags.value("Theme", tenant="acme", default="default") == "default"

    flags.put(Setting("acme", KEY, 1, False))
    assert flags.value(KEY, tenant="acme") is False
    flags.put(Setting("acme", KEY, 2, None))  # disabled, or deleted
    assert flags.value(KEY, tenant="acme") == "configured"


def test_what_concerns_all_is_the_same_whoever_asks():
    flags = Flags()
    flags.put(Setting(owner("Recurring:Sweep:Paused", "acme"), "Recurring:Sweep:Paused", 1, True))

    assert [flags.value("Recurring:Sweep:Paused", tenant=tenant) for tenant in ("", "acme", "other")] == [True] * 3


def test_a_percentage_is_of_the_users_and_another_flags_users_are_others():
    users = [f"u-{number}" for number in range(2000)]
    some = {user for user in users if is_among(25, "a", user)}
    more = {user for user in users if is_among(50, "a", user)}
    others = {user for user in users if is_among(25, "b", user)}

    assert 400 < len(some) < 600
    assert some < more
    assert 50 < len(some & others) < 200
    assert not any(is_among(0, "a", user) for user in users)
    assert all(is_among(100, "a", user) for user in users)


# --- by event ---


async def test_what_one_replica_takes_all_of_them_know_and_the_table_keeps(db: Database):
    async with running(db, FakeSidecar(), FakeSidecar()) as (one, other):
        assert await one.take(1, {"percentage": 5}) == "SUCCESS"

        await eventually(lambda: one.value() == other.value() == {"percentage": 5}, every=0.01)
    async with running(db, FakeSidecar()) as (again,):
        assert again.value() == {"percentage": 5}


async def test_events_that_come_late_or_twice_change_nothing(db: Database):
    async with running(db, FakeSidecar(), FakeSidecar()) as (one, other):
        for version, value in ((2, "new"), (1, "old"), (2, "new"), (3, None), (2, "new")):
            await one.take(version, value)
            await other.take(version, value)
        await eventually(lambda: {one.value(), other.value()} == {"default"}, every=0.01)

    told = await db.read(lambda conn: conn.execute(sa.select(CHANGES.c.data)).scalars().all())
    assert len(told) == 2


@pytest.mark.parametrize(
    "wrong", [{"version": 0}, {"version": "x"}, {"key": "no key!"}, {"key": "k" * 65}, {"tenant": "a/b"}]
)
async def test_what_is_no_change_of_a_setting_goes_to_the_dead_letters(db: Database, wrong: dict[str, Any]):
    async with running(db, FakeSidecar()) as (one,):
        fields: dict[str, Any] = {"version": 1, "value": True, **wrong}
        assert await one.take(**fields) == "DROP"
        assert await one.take(1, True, type="another.kind.v1") == "SUCCESS"
        assert one.value() == "default"


# --- by the snapshot ---


async def test_a_service_asks_for_everything_when_it_starts_page_by_page(db: Database):
    pages = {
        None: page(Setting("acme", KEY, 4, True), following=["acme", KEY]),
        ("acme", KEY): page(Setting("", "Routing:Payments", 1, [1]), configured={"Theme": "dark"}),
    }

    def answer(body: Any) -> Answer:
        return pages[tuple(body["after"]) if body["after"] else None]

    async with running(db, FakeSidecar({ASK: answer}), FakeSidecar()) as (one, other):
        await eventually(lambda: one.value(key="Routing:Payments") == other.value(key="Routing:Payments") == [1])
        assert (one.value(), other.value()) == (True, True)
        assert one.value(key="Theme") == "dark"
    async with running(db, FakeSidecar()) as (again,):  # and nobody answers
        assert (again.value(), again.value(key="Theme")) == (True, "dark")


async def test_a_snapshot_that_is_older_than_an_event_changes_nothing(db: Database):
    async with running(db, FakeSidecar(), asks=False) as (one,):
        await one.take(2, "new")
        await eventually(lambda: one.value() == "new", every=0.01)
    async with running(db, sidecar := FakeSidecar({ASK: page(Setting("acme", KEY, 1, "old"))})) as (one,):
        await eventually(lambda: sidecar.invoked, every=0.01)
        await one.take(3, "newest")
        await eventually(lambda: one.value() == "newest", every=0.01)
    stored = await db.read(lambda conn: conn.execute(sa.select(SNAPSHOT.c.version, SNAPSHOT.c.value)).one())
    assert tuple(stored) == (3, '"newest"')


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=200, data=None),
        Answer(status=200, data={"items": [{}], "next": None, "configured": {}}),
        Answer(status=500, data={"errorCode": "ERR_DIRECT_INVOKE", "message": "no such app"}),
        Answer(status=404, data=None),
    ],
)
async def test_without_a_whole_answer_what_was_known_last_serves_and_it_asks_again(
    db: Database, answer: Answer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("chassis.retry_delays._FIRST", (0.01,))
    sidecar = FakeSidecar({ASK: answer})
    async with running(db, FakeSidecar(), asks=False) as (one,):
        await one.take(1, "known")
    async with running(db, sidecar) as (one,):
        await eventually(lambda: sidecar.invoked, every=0.005)
        assert one.value() == "known"
        sidecar.answers[ASK] = page(Setting("acme", KEY, 2, "new"))
        await eventually(lambda: one.value() == "new", every=0.01)
