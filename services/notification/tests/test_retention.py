"""What is only needed for a while is thrown out; what is a record stays."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from chassis.ids import now
from chassis.retention import throw_out
from notification.retention import EXPIRIES
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
    await throw_out(db, EXPIRIES)
    assert await count(table) == 2
