"""Units of work, each of them whole, on SQLite and on PostgreSQL."""

import asyncio
import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import warnings
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from chassis import postgresql
from chassis.db import Database, DatabaseInUse, Timestamp, _lock, among, insert_all, upsert  # pyright: ignore[reportPrivateUsage]
from chassis.ids import new_id
from stack import local
from stack.postgres import Postgres

NOTES = sa.Table("notes", sa.MetaData(), sa.Column("text", sa.String, primary_key=True))


only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.integration)
only_postgresql = pytest.mark.parametrize("database_url", [POSTGRESQL], indirect=True)


class Refused(Exception):
    pass


@pytest.fixture(params=["sqlite", POSTGRESQL])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.create(new_id())


def write(text: str):
    return lambda conn: conn.execute(sa.insert(NOTES).values(text=text))  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType]


async def notes(db: Database) -> list[str]:
    return await db.read(lambda conn: list(conn.execute(sa.select(NOTES.c.text).order_by(NOTES.c.text)).scalars()))


async def test_what_is_written_can_be_read(db: Database):
    assert await db.write(lambda conn: conn.execute(sa.insert(NOTES).values(text="a")).rowcount) == 1

    assert await notes(db) == ["a"]


async def test_an_insert_says_whether_it_was_the_first(db: Database):
    """It said -1 on PostgreSQL once, and every event counted as taken."""
    once = lambda conn: conn.execute(upsert(conn, NOTES).values(text="a").on_conflict_do_nothing()).rowcount  # noqa: E731
    many = lambda conn: conn.execute(upsert(conn, NOTES).on_conflict_do_nothing(), [{"text": "b"}]).rowcount  # noqa: E731

    assert [await db.write(work) for work in (once, once, many, many)] == [1, 0, 1, 0]


async def test_many_are_inserted_at_once_and_found_among_many(db: Database):
    texts = [f"{number}'s: Zoë, \\ :rows \n" for number in range(1000)]
    await db.write(lambda conn: insert_all(conn, NOTES, [{"text": text} for text in texts]))

    found = sa.select(NOTES.c.text)
    assert set(await notes(db)) == set(texts)
    few = await db.read(
        lambda conn: [*conn.execute(found.where(among(conn, NOTES.c.text, [*texts[:300], "none"]))).scalars()]
    )
    assert set(few) == set(texts[:300])


async def test_whatever_is_inserted_with_many_comes_back_as_one_by_one(db: Database):
    columns = (sa.Column("text", sa.String), sa.Column("n", sa.Integer), sa.Column("day", sa.Date))
    table = sa.Table("kinds", sa.MetaData(), *columns, sa.Column("at", Timestamp))
    east = datetime(2026, 7, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    kinds = [
        ("", 0, None, None),
        (None, None, east.date(), east),
        ("\\N\t\r\n\\.", -1, None, east),
        ("☕", 1, None, None),
    ]
    rows = [dict(zip(table.c.keys(), kind, strict=True)) for kind in kinds]
    await db.write(table.metadata.create_all)

    await db.write(lambda conn: insert_all(conn, table, rows))
    at_once = await db.write(lambda conn: conn.execute(sa.delete(table).returning(table)).all())
    for row in rows:
        await db.write(lambda conn, row=row: conn.execute(sa.insert(table).values(row)))

    assert at_once == await db.read(lambda conn: conn.execute(sa.select(table)).all())
    # Text that is compared by the database itself, too.
    before = sa.select(sa.func.count()).where(table.c.at < east + timedelta(microseconds=1))
    assert await db.read(lambda conn: conn.execute(before).scalar_one()) == 2


async def test_many_that_are_refused_are_refused_as_one_would_be(db: Database):
    with pytest.raises(IntegrityError):
        await db.write(lambda conn: insert_all(conn, NOTES, [{"text": "a"}, {"text": "a"}]))

    assert await notes(db) == []


async def test_a_unit_that_raises_leaves_nothing_and_its_caller_hears_of_it(db: Database):
    def half(conn: sa.Connection) -> None:
        conn.execute(sa.insert(NOTES).values(text="half"))
        raise Refused

    with pytest.raises(Refused):
        await db.write(half)

    assert await notes(db) == []


@only_sqlite
async def test_one_units_refusal_leaves_its_neighbours_in_the_same_commit(db: Database):
    """The writer is held up by a first unit, so that the others are committed together."""
    go = threading.Event()

    def refuse(conn: sa.Connection) -> None:
        conn.execute(sa.insert(NOTES).values(text="refused"))
        raise Refused

    holding = asyncio.create_task(db.write(lambda _: go.wait(5)))
    rest = [asyncio.create_task(db.write(work)) for work in (write("a"), refuse, write("a"), write("b"))]
    await asyncio.sleep(0)
    go.set()
    await holding

    first, refused, twice, last = await asyncio.gather(*rest, return_exceptions=True)

    assert isinstance(refused, Refused)
    assert isinstance(twice, IntegrityError)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    assert await notes(db) == ["a", "b"]


async def test_hundreds_at_once_are_all_written(db: Database):
    await asyncio.gather(*(db.write(write(f"{number:03}")) for number in range(300)))

    assert len(await notes(db)) == 300


@only_sqlite
async def test_a_caller_who_stops_waiting_harms_nobody(db: Database):
    go = threading.Event()
    holding = asyncio.create_task(db.write(lambda _: go.wait(5)))
    gone, staying = (asyncio.create_task(db.write(write(text))) for text in ("gone", "staying"))
    await asyncio.sleep(0)
    gone.cancel()
    go.set()
    await asyncio.gather(holding, staying)

    assert "staying" in await notes(db)


async def test_stopping_commits_what_was_queued(database_url: str):
    db = Database(database_url)
    await db.start()
    await db.write(NOTES.metadata.create_all)
    writing = [asyncio.create_task(db.write(write(f"{number:03}"))) for number in range(100)]
    await asyncio.sleep(0)

    await db.stop()
    await asyncio.gather(*writing)

    again = Database(database_url)
    await again.start()
    assert len(await notes(again)) == 100
    await again.stop()


@only_sqlite
async def test_a_second_process_on_the_same_file_is_refused_by_name(db: Database, tmp_path: Path):
    with pytest.raises(DatabaseInUse, match=r"test\.lock.*PostgreSQL"):
        await asyncio.to_thread(_lock, tmp_path / "test.lock", within=0)
    await db.ping()


async def test_a_successor_gets_the_file_when_its_predecessor_has_stopped(database_url: str):
    for _ in range(2):
        db = Database(database_url)
        await db.start()
        await db.ping()
        await db.stop()


async def test_a_file_in_another_journal_mode_is_taken_over_while_readers_come(tmp_path: Path):
    """Once a reader and the writer both turned the file to WAL, the writer was refused, and no write ever returned."""
    for number in range(10):
        file = tmp_path / f"{number}.db"
        with sqlite3.connect(file) as made:
            made.execute("CREATE TABLE notes (text TEXT PRIMARY KEY)")
        made.close()
        db = Database(f"sqlite:///{file}")
        await db.start()
        *_, written = await asyncio.wait_for(asyncio.gather(db.ping(), db.ping(), db.write(write("a"))), timeout=5)
        await db.stop()
        assert written.rowcount == 1


async def test_times_come_back_aware_and_in_utc(db: Database):
    table = sa.Table("times", sa.MetaData(), sa.Column("at", Timestamp))
    east = datetime(2026, 7, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))

    await db.write(table.metadata.create_all)
    await db.write(lambda conn: conn.execute(sa.insert(table), [{"at": east}, {"at": None}]))

    found = await db.read(lambda conn: list(conn.execute(sa.select(table.c.at)).scalars()))
    assert found == [datetime(2026, 7, 1, 10, 30, tzinfo=UTC), None]
    assert found[0].tzinfo is UTC


def test_postgresql_is_not_exclusive_and_nothing_connects_before_the_first_query():
    assert not Database("postgresql://nobody:nothing@nowhere/none").exclusive


async def test_what_is_written_is_there_after_the_first_of_many_at_once(db: Database):
    """Each wants to be the one who writes the row; whoever is not finds it."""

    def first(conn: sa.Connection) -> bool:
        inserted = conn.execute(upsert(conn, NOTES).values(text="once").on_conflict_do_nothing().returning(NOTES))
        made = inserted.one_or_none() is not None
        assert conn.execute(sa.select(NOTES)).scalar_one() == "once"
        return made

    assert sum(await asyncio.gather(*(db.write(first) for _ in range(30)))) == 1


@only_postgresql
async def test_units_that_lock_each_other_out_are_run_again(db: Database):
    """Two units take the same two rows, each the other's first: PostgreSQL ends one of them, and its caller never
    learns of it."""
    await db.write(lambda conn: conn.execute(sa.insert(NOTES), [{"text": "a"}, {"text": "b"}]))
    runs: list[str] = []

    def both(first: str, second: str):
        def work(conn: sa.Connection) -> int:
            runs.append(first)
            touched = 0
            for text in (first, second):
                touched += conn.execute(sa.update(NOTES).where(NOTES.c.text == text).values(text=text)).rowcount
                conn.exec_driver_sql("SELECT pg_sleep(0.1)")
            return touched

        return work

    assert await asyncio.gather(db.write(both("a", "b")), db.write(both("b", "a"))) == [2, 2]
    assert len(runs) == 3


@only_postgresql
async def test_a_unit_that_can_never_be_done_is_given_up(db: Database):
    runs: list[int] = []

    def hopeless(conn: sa.Connection) -> None:
        runs.append(1)
        conn.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = 'serialization_failure'; END $$")

    with pytest.raises(OperationalError):
        await db.write(hopeless)
    assert len(runs) == 4


@only_postgresql
async def test_a_process_that_stands_still_amid_a_unit_loses_its_locks_and_does_it_again(
    db: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(postgresql._POSTGRES, "idle_in_transaction_session_timeout", "200ms")
    table = sa.Table("held", sa.MetaData(), sa.Column("n", sa.Integer))
    await db.write(table.metadata.create_all)
    await db.write(lambda conn: conn.execute(sa.insert(table).values(n=0)))
    holding, ending, found = threading.Event(), threading.Event(), list[int]()

    def stand_still(conn: sa.Connection) -> None:
        found.append(conn.execute(sa.update(table).values(n=table.c.n + 1).returning(table.c.n)).scalar_one())
        holding.set()
        ending.wait(30)
        conn.execute(sa.select(table))

    async def unit() -> None:
        still = Database(database_url)
        try:
            await still.write(stand_still)
        finally:
            await still.stop()

    stands = asyncio.create_task(asyncio.to_thread(asyncio.run, unit()))
    await asyncio.to_thread(holding.wait)
    await db.write(lambda conn: conn.execute(sa.update(table).values(n=table.c.n + 10)))
    ending.set()
    await stands

    assert found == [1, 11]
    assert await db.read(lambda conn: conn.execute(sa.select(table.c.n)).scalar_one()) == 11


@only_postgresql
@pytest.mark.parametrize("use", ["read", "write"])
async def test_connections_that_were_ended_meanwhile_are_no_units_concern(db: Database, engine: sa.Engine, use: str):
    table = sa.Table("ended", sa.MetaData(), sa.Column("n", sa.Integer))
    await db.write(table.metadata.create_all)
    await asyncio.gather(*(db.read(lambda conn: conn.execute(sa.text("SELECT pg_sleep(0.05)"))) for _ in range(4)))
    with engine.begin() as conn:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert all(conn.execute(sa.text(f"SELECT pg_terminate_backend(pid, 5000) {others}")).scalars())

    if use == "write":
        await db.write(lambda conn: conn.execute(sa.insert(table).values(n=1)))

    found = await db.read(lambda conn: conn.execute(sa.select(table.c.n)).scalars().all())
    assert found == ([1] if use == "write" else [])


@only_postgresql
@pytest.mark.parametrize("told", ["by a statement", "and hidden", "by a copy"])
async def test_a_unit_whose_connection_is_ended_amid_it_is_done_once(db: Database, engine: sa.Engine, told: str):
    table = sa.Table("amid", sa.MetaData(), sa.Column("n", sa.Integer))
    await db.write(table.metadata.create_all)
    pids: list[int] = []

    def unit(conn: sa.Connection) -> None:
        conn.execute(sa.insert(table).values(n=1))
        pids.append(conn.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())
        if len(pids) == 1:
            with engine.begin() as other:
                other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pids[0]})
        if told != "by a copy":
            with contextlib.suppress(*[DBAPIError] * (told == "and hidden")), conn.begin_nested():
                conn.execute(sa.select(table))
        insert_all(conn, table, [{"n": 2}])

    await db.write(unit)

    assert len(pids) == 2
    assert await db.read(lambda conn: conn.execute(sa.select(table.c.n).order_by(table.c.n)).scalars().all()) == [1, 2]


@only_postgresql
@pytest.mark.parametrize("use", ["read", "write"])
async def test_a_unit_that_is_cancelled_at_any_of_its_steps_leaves_no_connection_open(
    db: Database, use: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("psycopg.waiting.MAX_BUSY_TIME", 0)  # as in a busy loop: each way to the server is a step
    await db.ping()
    steps = 0
    with warnings.catch_warnings(record=True, action="always") as left_open:
        while True:
            unit = asyncio.create_task(getattr(db, use)(lambda conn: conn.execute(sa.text("SELECT 1")).scalar()))
            for _ in range(steps):
                await asyncio.sleep(0)
            if unit.done():
                break
            unit.cancel()
            await asyncio.wait([unit])
            steps += 1
        gc.collect()

    assert steps > 5
    assert not left_open


@only_postgresql
async def test_adding_up_under_concurrency_loses_nothing(db: Database):
    table = sa.Table("counters", sa.MetaData(), sa.Column("n", sa.Integer))
    await db.write(table.metadata.create_all)
    await db.write(lambda conn: conn.execute(sa.insert(table).values(n=0)))

    await asyncio.gather(
        *(db.write(lambda conn: conn.execute(sa.update(table).values(n=table.c.n + 1))) for _ in range(50))
    )

    assert await db.read(lambda conn: conn.execute(sa.select(table.c.n)).scalar_one()) == 50


def test_of_processes_that_migrate_at_once_one_does_it_and_the_others_find_it_done(database_url: str, tmp_path: Path):
    folder = tmp_path / "widgets" / "migrations"
    folder.mkdir(parents=True)
    (tmp_path / "widgets" / "__init__.py").touch()
    (folder / "0001_first.py").write_text(SLOW_MIGRATION)
    script = f"""
import sqlalchemy, widgets
from chassis import migrations
migrations.upgrade({database_url!r}, widgets, sqlalchemy.MetaData())
"""
    both = [subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) for _ in range(2)]  # noqa: S603
    assert [process.wait(60) for process in both] == [0, 0]

    engine = sa.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    with engine.connect() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM widgets").scalar_one() == 1


# No two can do this: the second would meet a table that exists.
SLOW_MIGRATION = """
import time
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.create_table("widgets", sa.Column("id", sa.Integer, primary_key=True))
    time.sleep(1)
    op.execute("INSERT INTO widgets (id) VALUES (1)")
"""


@pytest.mark.integration
def test_the_tests_own_server_is_ended_when_whoever_started_it_is_killed():
    code = "from stack import postgres\nwith postgres._installed() as url: print(url, flush=True); input()"
    with TemporaryDirectory() as folder:  # the server's data is left behind
        Path(folder).chmod(0o711)
        owner = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", code],
            env={**os.environ, "TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with owner:
            assert owner.stdout
            port = sa.make_url(owner.stdout.readline().strip()).port or 0
            assert local.answers(port)
            owner.kill()
        local.wait_until(
            lambda: not any(stands_in(process, folder) for process in psutil.process_iter()), within=20, what="the end"
        )


def stands_in(process: psutil.Process, folder: str) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False
