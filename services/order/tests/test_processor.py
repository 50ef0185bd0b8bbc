"""PendingOrderProcessor, as the scheduler calls it: a few orders at a time, and none keeps another waiting for ever."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import structlog
from fastapi import FastAPI

from chassis.db import Database
from chassis.ids import now
from chassis.jobs import Jobs
from chassis.leases import Leases
from chassis.takeover import Takeover, instance_id
from order import tables
from order.saga import OrderRef
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar

PROCESSOR = "PendingOrderProcessor"


class Engine(FakeSidecar):
    """Begins no workflow before `gate` is opened, and the one named `broken` never."""

    def __init__(self) -> None:
        super().__init__()
        self.broken, self.gate = "", asyncio.Event()
        self.waiting, self.most = 0, 0

    async def start_workflow(self, name: str, instance_id: str, argument: Any) -> None:
        if instance_id == self.broken:
            raise RuntimeError("a bug")
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.gate.wait()
        self.waiting -= 1
        await super().start_workflow(name, instance_id, argument)


@pytest.fixture
def sidecar() -> Engine:
    return Engine()


@pytest.fixture
async def due(placed: Callable[..., Awaitable[OrderRef]], db: Database) -> list[OrderRef]:
    """Orders whose drivers are dead."""
    refs = [*[await placed("latte", 1) for _ in range(5)], await placed("tea", 1)]
    past = sa.update(tables.orders).values(lease_until=now() - timedelta(seconds=1))
    await db.write(lambda conn: conn.execute(past))
    return refs


@pytest.fixture
async def scheduler(takeover: Takeover[OrderRef], db: Database, sidecar: Engine) -> AsyncIterator[httpx.AsyncClient]:
    jobs = Jobs(
        db=db, runs=tables.job_runs, sidecar=sidecar, leases=Leases(db, tables.leases), jobs=(takeover.job(PROCESSOR),)
    )
    app = FastAPI()
    jobs.mount(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client
    await jobs.stop()


async def test_four_orders_at_a_time_are_taken_over_and_one_that_fails_is_named_and_ends_neither_run_nor_lease(
    scheduler: httpx.AsyncClient, due: list[OrderRef], sidecar: Engine, db: Database
):
    sidecar.broken = instance_id(due[0])
    another = Leases(db, tables.leases)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with structlog.testing.capture_logs() as logs:
        await scheduler.post(f"/job/{PROCESSOR}")
        await eventually(lambda: sidecar.waiting == 4)
        assert not await another.hold(f"job.{PROCESSOR}")

        sidecar.gate.set()
        await eventually(lambda: another.hold(f"job.{PROCESSOR}"))

    assert [(line["event"], line["item"]) for line in logs] == [("item.failed", due[0].id)]
    assert set(sidecar.workflows) == {instance_id(ref) for ref in due[1:]}
    assert sidecar.most == 4
