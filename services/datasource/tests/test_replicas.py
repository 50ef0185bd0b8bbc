"""Several processes on one PostgreSQL: an entity is one's at a time, and what one leaves another goes on with."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa

import datasource
from chassis import migrations
from chassis.ids import new_id
from datasource import tables
from datasource.domain import Entity, Mode, SyncRunning
from datasource.quarantine import Quarantine
from stack.eventually import eventually


@pytest.fixture(scope="module")
def empty(postgres_server):
    url = postgres_server.create(f"datasource_{new_id()[-12:]}")
    migrations.upgrade(sa.make_url(url), datasource, tables.metadata)
    return url


@pytest.fixture
async def replica(empty, parts) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Another process on the same database, which is empty when the first one starts."""
    async with parts(database_url=empty) as made:
        names = ", ".join(table.name for table in tables.metadata.sorted_tables)
        await made.db.write(lambda conn: conn.exec_driver_sql(f"TRUNCATE {names}"))

    @asynccontextmanager
    async def another(**changed: Any):
        async with parts(database_url=empty, **changed) as made:
            yield made

    return another


async def test_of_two_that_are_told_to_sync_at_once_one_does(replica, sidecar):
    async with replica() as first, replica() as second:
        outcomes = await asyncio.gather(
            *(each.sync(Entity.CLIENTS, Mode.FULL) for each in (first, second, first, second)), return_exceptions=True
        )
        ended = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert [log.status for log in ended] == ["Success"]
        assert [type(outcome) for outcome in outcomes if outcome not in ended] == [SyncRunning] * 3
        assert len(sidecar.asked) == 3
        assert len(await first.events()) == 12

        await asyncio.gather(first.syncs.sync_all(), second.syncs.sync_all())
        for entity in Entity:
            assert len(await first.rows(entity)) == len(sidecar.inn8.records(entity))
        assert len(await first.events()) == 12


async def test_what_a_dead_one_left_another_goes_on_with(replica, sidecar):
    asked, listed = asyncio.Event(), sidecar._listed

    async def hang(method, headers):
        if "cursor" in method:
            asked.set()
            await asyncio.Event().wait()
        return await listed(method, headers)

    sidecar._listed = hang
    async with replica(lease_seconds=0.5) as first, replica() as second:
        log_id, driving = await first.syncs.command("default", Entity.CLIENTS, Mode.INCREMENTAL)
        await asked.wait()
        first.runs.let_go = lambda _run: asyncio.sleep(0)  # it is not told that it dies
        driving.cancel()
        sidecar._listed = listed

        async def gone_on_with() -> bool:
            await second.syncs.resume_abandoned()
            return (await second.runs.get(log_id)).status == "Success"

        await eventually(gone_on_with)
        log = await second.runs.get(log_id)
        assert (log.inserted, log.unchanged) == (12, 0)


async def test_one_that_stood_still_and_was_relieved_writes_nothing_more(replica, sidecar):
    """Its page is in hand, and its lease is over: whoever goes on has the last word."""
    async with replica() as first, replica() as second:
        slow = await first.runs.begin("default", "inn8", Entity.CLIENTS, Mode.INCREMENTAL)
        await second.runs.release_all()
        await second.syncs.resume_abandoned()
        told = await first.events()
        sidecar.inn8.put("clients", "C-000001", {"fullName": "Somebody Else"})

        await first.syncs._drive(slow)

        assert (await first.runs.get(slow.log.id)).status == "Success"
        assert await first.events() == told


async def test_a_replay_and_a_sync_that_bring_the_same_row_make_it_once(replica, sidecar):
    sidecar.inn8.put("clients", "C-NEW", {"fullName": "x" * 256})
    async with replica() as first, replica() as second:
        await first.sync()
        quarantine = Quarantine(first.db, first.services.outbox, "default")
        [item] = await quarantine.page(entity=None, before=None, limit=1)
        shorter = "UPDATE quarantine SET payload = replace(payload, 'xx', 'x')"
        await first.db.write(lambda conn: conn.exec_driver_sql(shorter))
        sidecar.inn8.put("clients", "C-NEW", {"fullName": "Ada"})

        await asyncio.gather(quarantine.replay(item.id, parent=""), second.sync(), return_exceptions=True)

        assert (await first.rows(Entity.CLIENTS))["C-NEW"]["name"] == "Ada"
        versions = [data["version"] for subject, data in await first.events() if subject == "C-NEW"]
        assert versions == list(range(1, len(versions) + 1))
