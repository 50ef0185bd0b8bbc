"""One owner at a time, recurring work that never overlaps, and background work that ends well."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from chassis.db import Database
from chassis.ids import now
from chassis.jobs import Job, Jobs
from chassis.leases import Leases
from chassis.problems import Unavailable
from chassis.tasks import Tasks, for_each
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar


class Work:
    """Counts its runs, each as long as `gate` is shut."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.runs += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error


class Scheduler(FakeSidecar):
    """Counts what was registered."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = True
        self.puts: list[tuple[str, str]] = []

    async def put_job(self, name: str, schedule: str) -> None:
        await super().put_job(name, schedule)
        self.puts.append((name, schedule))


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


@pytest.fixture
def leases(db: Database, metadata: sa.MetaData) -> Leases:
    return Leases(db, metadata.tables["leases"])


def sweep(work: Work, **how: Any) -> Job:
    return Job(name="sweep", every=timedelta(seconds=30), work=work, **how)


@pytest.fixture
async def jobs(scheduler: Scheduler, leases: Leases, work: Work) -> AsyncIterator[Jobs]:
    made = Jobs(sidecar=scheduler, leases=leases, jobs=(sweep(work),))
    yield made
    await made.stop()


async def call(jobs: Jobs, name: str) -> httpx.Response:
    app = FastAPI()
    jobs.mount(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.post(f"/job/{name}")


async def leased(db: Database, metadata: sa.MetaData) -> list[str]:
    return await db.read(lambda conn: list(conn.execute(sa.select(metadata.tables["leases"].c.name)).scalars()))


async def test_a_lease_has_one_owner_who_may_renew_it(db: Database, metadata: sa.MetaData, leases: Leases):
    other = Leases(db, metadata.tables["leases"])

    assert await leases.hold("a")
    assert await leases.hold("a")
    assert not await other.hold("a")
    assert await other.hold("b")


async def test_a_released_lease_is_free_and_only_its_owner_releases_it(
    db: Database, metadata: sa.MetaData, leases: Leases
):
    other = Leases(db, metadata.tables["leases"])
    await leases.hold("a")

    await other.release("a")
    assert not await other.hold("a")
    await leases.release("a")
    assert await other.hold("a")


async def test_a_dead_owners_lease_ends(db: Database, metadata: sa.MetaData, leases: Leases):
    other = Leases(db, metadata.tables["leases"])
    await leases.hold("a", seconds=-1)

    assert await other.hold("a")
    assert not await leases.hold("a")


async def test_of_many_who_want_a_lease_at_once_one_gets_it(db: Database, metadata: sa.MetaData):
    many = [Leases(db, metadata.tables["leases"]) for _ in range(10)]

    assert sum(await asyncio.gather(*(one.hold("a") for one in many))) == 1


async def test_the_scheduler_is_answered_at_once_and_the_work_is_done_beside(jobs: Jobs, work: Work):
    work.gate.clear()

    answer = await call(jobs, "sweep")

    assert (answer.status_code, answer.json()) == (200, {})
    await eventually(lambda: work.runs == 1, every=0.005)


async def test_a_delivery_during_a_run_is_refused_by_the_lease_and_one_after_it_is_not(
    jobs: Jobs, work: Work, db: Database, metadata: sa.MetaData
):
    work.gate.clear()
    await call(jobs, "sweep")
    await eventually(lambda: work.runs == 1, every=0.005)
    elsewhere = Leases(db, metadata.tables["leases"])
    assert not await elsewhere.hold("job.sweep"), "nor may another replica run it"

    work.gate.set()

    async def released() -> bool:
        return await leased(db, metadata) == []

    await eventually(released, every=0.005)
    await call(jobs, "sweep")
    await eventually(lambda: work.runs == 2, every=0.005)


async def test_another_replicas_run_refuses_ours(jobs: Jobs, work: Work, db: Database, metadata: sa.MetaData):
    await Leases(db, metadata.tables["leases"]).hold("job.sweep", seconds=60)

    await call(jobs, "sweep")
    await jobs._tasks.drain(within=5)  # pyright: ignore[reportPrivateUsage]

    assert work.runs == 0


async def test_a_run_that_fails_gives_its_lease_back(jobs: Jobs, work: Work, db: Database, metadata: sa.MetaData):
    work.error = Unavailable("database")

    await call(jobs, "sweep")
    await jobs._tasks.drain(within=5)  # pyright: ignore[reportPrivateUsage]

    assert work.runs == 1
    assert await leased(db, metadata) == []


async def test_a_job_that_is_not_ours_is_acknowledged(jobs: Jobs, work: Work):
    assert (await call(jobs, "another")).status_code == 200
    assert work.runs == 0


@pytest.mark.parametrize(
    ("stands_there", "registered"),
    [
        ({}, [("sweep", "@every 30s")]),
        ({"sweep": "@every 30s"}, []),
        ({"sweep": "@every 5s"}, [("sweep", "@every 30s")]),
    ],
)
async def test_a_schedule_is_written_only_when_it_is_new_or_changed(
    jobs: Jobs, scheduler: Scheduler, stands_there: dict[str, str], registered: list[tuple[str, str]]
):
    scheduler.jobs = stands_there

    await jobs.start()
    await jobs._tasks.drain(within=5)  # pyright: ignore[reportPrivateUsage]

    assert scheduler.puts == registered
    assert scheduler.jobs == {"sweep": "@every 30s"}


async def test_at_start_it_runs_in_process_without_scheduler_or_lease(
    scheduler: Scheduler, leases: Leases, work: Work, db: Database, metadata: sa.MetaData
):
    scheduler.alive = False
    await Leases(db, metadata.tables["leases"]).hold("job.sweep", seconds=60)
    twice = (timedelta(0), timedelta(milliseconds=5))
    jobs = Jobs(sidecar=scheduler, leases=leases, jobs=(sweep(work, at_start=twice),))

    await jobs.start()
    await eventually(lambda: work.runs == 2, every=0.005)
    await jobs.stop()

    assert scheduler.puts == []


async def test_draining_lets_work_end_by_itself():
    tasks, ended = Tasks(), list[int]()

    async def work() -> None:
        await asyncio.sleep(0.01)
        ended.append(1)

    tasks.spawn(work(), name="work")
    await tasks.drain(within=5)

    assert ended == [1]


async def test_what_does_not_end_in_time_is_cancelled():
    tasks = Tasks()
    task = tasks.spawn(asyncio.Event().wait(), name="for-ever")

    await tasks.drain(within=0)

    assert task.cancelled()


async def test_a_task_that_fails_harms_nobody():
    tasks = Tasks()

    async def fail() -> None:
        raise RuntimeError

    failing = tasks.spawn(fail(), name="failing")
    await tasks.drain(within=5)

    assert isinstance(failing.exception(), RuntimeError)
    assert now().tzinfo is not None


async def test_many_items_are_worked_on_by_so_many_at_a_time():
    busy, most = 0, 0

    async def work(item: int) -> int:
        nonlocal busy, most
        busy, most = busy + 1, max(most, busy + 1)
        await asyncio.sleep(0)
        busy -= 1
        return item * 2

    assert await for_each(range(10), work, at_once=4, name=str) == [item * 2 for item in range(10)]
    assert most == 4


async def test_an_item_that_fails_has_no_answer_and_the_others_have():
    async def work(item: str) -> str:
        if item == "b":
            raise RuntimeError(item)
        return item

    assert await for_each("abc", work, at_once=1, name=str) == ["a", None, "c"]
