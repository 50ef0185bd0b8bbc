"""One owner at a time, recurring work that never overlaps, and background work that ends well."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

import chassis.jobs
from chassis.db import Database
from chassis.flags.memory import Flags, Setting
from chassis.ids import now
from chassis.job_runs import KEEP, RunStatus, RunView, begin_run
from chassis.jobs import Job, Jobs
from chassis.leases import Leases
from chassis.problems import Unavailable
from chassis.recurring import paused_by
from chassis.tasks import Tasks, for_each
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar

START = (timedelta(0),)


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
async def jobs(
    scheduler: Scheduler, leases: Leases, work: Work, db: Database, metadata: sa.MetaData
) -> AsyncIterator[Jobs]:
    made = Jobs(
        db=db, runs=metadata.tables["job_runs"], sidecar=scheduler, leases=leases, jobs=(sweep(work, at_start=START),)
    )
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
    await ended(jobs)

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


async def test_at_start_it_runs_without_a_scheduler_and_once_nobody_else_does(
    jobs: Jobs, scheduler: Scheduler, work: Work, db: Database, metadata: sa.MetaData
):
    scheduler.alive = False
    elsewhere = Leases(db, metadata.tables["leases"])
    await elsewhere.hold("job.sweep", seconds=60)

    await jobs.start()
    await asyncio.sleep(0.05)
    assert work.runs == 0, "no overlap"
    await elsewhere.release("job.sweep")

    await eventually(lambda: work.runs == 1, every=0.02)
    assert scheduler.puts == []


# --- what became of the runs ---


async def ended(jobs: Jobs, count: int = 1) -> list[RunView]:
    async def found() -> list[RunView]:
        runs = await jobs.last_runs("sweep")
        return runs if len(runs) >= count and runs[0].status is not RunStatus.RUNNING else []

    return await eventually(found, every=0.005)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (None, RunStatus.COMPLETED, None),
        (RuntimeError("a secret"), RunStatus.FAILED, "RuntimeError"),
        (Unavailable("database"), RunStatus.POSTPONED, "Unavailable"),
    ],
)
async def test_a_run_is_on_record_with_how_it_ended_and_by_whom(
    jobs: Jobs, work: Work, error: Exception | None, status: RunStatus, told: str | None
):
    work.error = error

    assert await jobs.run_now("sweep", by="boss")

    [run] = await ended(jobs)
    assert (run.status, run.error, run.by) == (status, told, "boss")
    assert run.duration_ms is not None
    await call(jobs, "sweep")
    assert [run.by for run in await ended(jobs, 2)] == ["scheduler", "boss"]


async def test_one_run_at_a_time_in_one_process_too(jobs: Jobs, work: Work):
    work.gate.clear()
    assert await jobs.run_now("sweep", by="boss")

    assert await jobs.run_now("sweep", by="another") is False
    await call(jobs, "sweep")
    await asyncio.sleep(0.02)
    work.gate.set()

    assert [run.by for run in await ended(jobs)] == ["boss"]
    assert work.runs == 1
    assert await jobs.run_now("nothing", by="boss") is None


async def test_a_run_is_under_way_until_its_end_is_on_record(
    jobs: Jobs, work: Work, db: Database, monkeypatch: pytest.MonkeyPatch
):
    work.gate.clear()
    assert await jobs.run_now("sweep", by="boss")
    write, slow, written = db.write, asyncio.Event(), asyncio.Event()

    async def slowly(unit: Any) -> Any:
        slow.set()
        await written.wait()
        return await write(unit)

    monkeypatch.setattr(db, "write", slowly)
    work.gate.set()
    await slow.wait()
    monkeypatch.setattr(db, "write", write)

    assert await jobs.run_now("sweep", by="another") is False
    written.set()
    assert [(run.by, run.status) for run in await ended(jobs)] == [("boss", RunStatus.COMPLETED)]


async def test_a_run_whose_process_ended_is_called_interrupted_by_the_next_one(
    jobs: Jobs, db: Database, metadata: sa.MetaData
):
    await db.write(lambda conn: begin_run(conn, metadata.tables["job_runs"], "sweep", by="dead"))

    assert await jobs.run_now("sweep", by="boss")

    assert [(run.by, run.status) for run in await ended(jobs, 2)] == [
        ("boss", RunStatus.COMPLETED),
        ("dead", RunStatus.INTERRUPTED),
    ]


async def test_a_run_that_another_process_has_taken_over_ends_and_says_nothing_of_the_others(
    jobs: Jobs, work: Work, db: Database, metadata: sa.MetaData, monkeypatch: pytest.MonkeyPatch
):
    async def taken(_name: str, *, seconds: float) -> bool:  # noqa: ARG001  the real one's signature
        return False

    work.gate.clear()
    monkeypatch.setattr(chassis.jobs, "_LEASE_SECONDS", 0.3)
    assert await jobs.run_now("sweep", by="a-1")
    theirs = await db.write(lambda conn: begin_run(conn, metadata.tables["job_runs"], "sweep", by="another"))
    monkeypatch.setattr(jobs._leases, "hold", taken)

    await eventually(lambda: not jobs._under_way)
    kept = {run.by: run.status for run in await jobs.last_runs("sweep")}
    assert (bool(theirs), kept) == (True, {"a-1": RunStatus.INTERRUPTED, "another": RunStatus.RUNNING})


async def test_the_last_fifty_are_kept(jobs: Jobs, db: Database, metadata: sa.MetaData):
    def many(conn: sa.Connection) -> None:
        for number in range(KEEP + 5):
            begin_run(conn, metadata.tables["job_runs"], "sweep", by=str(number))
        begin_run(conn, metadata.tables["job_runs"], "another", by="x")

    await db.write(many)

    assert [run.by for run in await jobs.last_runs("sweep")] == [str(number) for number in range(KEEP + 4, 4, -1)]
    count = sa.select(sa.func.count()).select_from(metadata.tables["job_runs"])
    assert await db.read(lambda conn: conn.execute(count).scalar_one()) == KEEP + 1


async def test_a_paused_one_is_only_run_by_hand(jobs: Jobs, work: Work):
    flags = Flags()
    jobs.paused = paused_by(flags)
    assert not jobs.paused("sweep")
    flags.put(Setting(tenant="", key="Recurring:sweep:Paused", version=1, value=True))
    await jobs.start()
    await call(jobs, "sweep")
    await asyncio.sleep(0.05)
    assert work.runs == 0

    assert await jobs.run_now("sweep", by="boss")

    assert [run.by for run in await ended(jobs)] == ["boss"]


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
