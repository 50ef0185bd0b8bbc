"""What is past its time goes, little by little; what is not stays."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from chassis.db import Database
from chassis.events import event_processing_table
from chassis.ids import now
from chassis.retention import BATCH, Expiry, throw_out

TABLE = event_processing_table(sa.MetaData())
EXPIRY = Expiry.of(TABLE.c.processed_at, timedelta(days=30))


async def fill(db: Database, ages: list[timedelta]) -> None:
    taken = {"tenant": "t", "consumer": "c"}
    rows = [taken | {"event_id": f"e-{number}", "processed_at": now() - age} for number, age in enumerate(ages)]
    await db.write(lambda conn: conn.execute(sa.insert(TABLE), rows))


async def left(db: Database) -> list[str]:
    return await db.read(lambda conn: list(conn.execute(sa.select(TABLE.c.event_id)).scalars()))


async def test_what_is_past_its_time_goes_and_what_is_not_stays(db: Database):
    month, minute = timedelta(days=30), timedelta(minutes=1)
    await fill(db, [month + minute, month - minute, timedelta(0)])

    await throw_out(db, (EXPIRY,))

    assert await left(db) == ["e-1", "e-2"]


async def test_much_of_it_goes_by_a_few_at_a_time(db: Database):
    """Others write too: on SQLite there is one writer, and it is nobody's for seconds."""
    await fill(db, [timedelta(days=60)] * (2 * BATCH + 1))
    deleted: list[int] = []

    def executed(_conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE"):
            deleted.append(cursor.rowcount)

    await db.write(lambda conn: event.listen(conn.engine, "after_cursor_execute", executed))
    await throw_out(db, (EXPIRY,))

    assert (deleted, await left(db)) == ([BATCH, BATCH, 1], [])


@pytest.mark.parametrize("first", [True, False])
async def test_a_table_that_cannot_be_swept_keeps_no_other_from_it(db: Database, *, first: bool):
    unknown = sa.Table("unknown", sa.MetaData(), sa.Column("at", sa.DateTime(timezone=True), primary_key=True))
    broken = Expiry.of(unknown.c.at, timedelta(0))
    await fill(db, [timedelta(days=60)])

    await throw_out(db, (broken, EXPIRY) if first else (EXPIRY, broken))

    assert await left(db) == []
