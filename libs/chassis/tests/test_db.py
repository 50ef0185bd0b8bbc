"""One writer, many units in a commit, and each of them whole."""

import asyncio
import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from chassis.db import Database, DatabaseInUse, Timestamp, _lock  # pyright: ignore[reportPrivateUsage]

NOTES = sa.Table("notes", sa.MetaData(), sa.Column("text", sa.String, primary_key=True))


class Refused(Exception):
    pass


def write(text: str):
    return lambda conn: conn.execute(sa.insert(NOTES).values(text=text))  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType]


async def notes(db: Database) -> list[str]:
    return await db.read(lambda conn: list(conn.execute(sa.select(NOTES.c.text).order_by(NOTES.c.text)).scalars()))


async def test_what_is_written_can_be_read(db: Database):
    assert await db.write(lambda conn: conn.execute(sa.insert(NOTES).values(text="a")).rowcount) == 1

    assert await notes(db) == ["a"]


async def test_a_unit_that_raises_leaves_nothing_and_its_caller_hears_of_it(db: Database):
    def half(conn: sa.Connection) -> None:
        conn.execute(sa.insert(NOTES).values(text="half"))
        raise Refused

    with pytest.raises(Refused):
        await db.write(half)

    assert await notes(db) == []


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
