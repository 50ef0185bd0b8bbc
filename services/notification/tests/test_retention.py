"""What is only needed for a while is thrown out, little by little; what is a record stays."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from chassis.ids import now
from notification.retention import _BATCH, sweep
from notification.tables import early_receipts, event_processing, keys, password_resets


def _taken(number, at):
    return {"tenant": "t", "consumer": "notification.orders", "event_id": f"e-{number}", "processed_at": at}


def _reset(number, at):
    valid = {"created_at": at, "expires_at": at + timedelta(hours=1)}
    return {"token_hash": f"h-{number}", "tenant": "t", "recipient_id": "c-1"} | valid


def _receipt(number, at):
    return {"provider": "legacy", "message_id": f"m-{number}", "status": "delivered", "received_at": at}


def _key(number, at):
    return {"tenant": "t", "key": f"k-{number}", "body_hash": "", "made": "", "created_at": at}


KEPT = [
    (event_processing, _taken, timedelta(days=30)),
    (password_resets, _reset, timedelta(days=1)),
    (keys, _key, timedelta(days=1)),
    (early_receipts, _receipt, timedelta(days=3)),
]


@pytest.fixture
def fill(db):
    """A table with rows of these ages."""

    def work(table, row, ages):
        rows = [row(number, now() - age) for number, age in enumerate(ages)]
        return db.write(lambda conn: conn.execute(sa.insert(table), rows))

    return work


@pytest.fixture
def count(db):
    return lambda table: db.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


@pytest.fixture(params=KEPT, ids=lambda one: one[0].name)
def kept(request):
    """A table, what makes one of its rows, and how long that is needed."""
    return request.param


async def test_what_is_past_its_time_goes_and_what_is_not_stays(db, fill, count, kept):
    (table, row, needed), minute = kept, timedelta(minutes=1)
    await fill(table, row, [needed + minute, needed - minute, timedelta(0)])
    await sweep(db)
    assert await count(table) == 2


async def test_much_of_it_goes_by_a_few_at_a_time(db, fill, count, kept):
    table, row, needed = kept
    await fill(table, row, [needed * 2] * (2 * _BATCH + 1))
    deleted = []

    def executed(_conn, cursor, statement, *_):
        if statement.startswith("DELETE") and cursor.rowcount:
            deleted.append(cursor.rowcount)

    await db.write(lambda conn: event.listen(conn.engine, "after_cursor_execute", executed))
    await sweep(db)
    assert (deleted, await count(table)) == ([_BATCH, _BATCH, 1], 0)
