import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import OperationalError

from chassis.events import consume
from chassis.ids import now
from chassis.testing import eventually
from notification import system
from notification.domain import LEASE, ChannelName, Delivered, Postponed, Refused
from notification.sender import Sender
from notification.store import Filter, Page, Store
from notification.subscriptions import order_handlers
from notification.tables import notifications, orders


class Wire:
    """A channel that answers as told, well by default, and notes the ids it was asked to send."""

    concurrency = 2

    def __init__(self):
        self.answers = []
        self.ids = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, notification):
        self.ids.append(notification.id)
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else Delivered("Hello")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self):
        return


@pytest.fixture
def wires():
    return {name: Wire() for name in ChannelName}


@pytest.fixture
def email_wire(wires):
    return wires[ChannelName.EMAIL]


@pytest.fixture
def sending(db, wires):
    """A running sender, and what delivers an event to it."""

    @asynccontextmanager
    async def run():
        sender = Sender(db=db, channels=wires)
        sender.start()
        try:
            yield lambda body: consume(body, order_handlers(db, sender))
        finally:
            await sender.stop()

    return run


@pytest.fixture
def only(db):
    """The one row there is, once it has this status."""

    async def look(status):
        async def found():
            rows, _ = await Store(db, "default", None).history(Filter(), Page())
            return rows[0] if rows and rows[0].status == status else None

        return await eventually(found, within=3, every=0.005)

    return look


def lapse(db, **columns):
    """What time, or a kill, does to every row."""
    return db.write(lambda conn: conn.execute(sa.update(notifications).values(columns)))


async def test_a_delivered_event_is_sent_and_written_down(sending, email_wire, only, event):
    async with sending() as deliver:
        await deliver(event())
        row = await only("sent")
    assert (row.subject, row.attempts, row.error, row.lease_until) == ("Hello", 1, None, None)
    assert row.sent_at >= row.created_at
    assert email_wire.ids == [row.id]


async def test_a_passing_failure_is_tried_again_later(sending, email_wire, only, event):
    email_wire.answers = [Postponed("smtp 451")]
    async with sending() as deliver:
        await deliver(event())
        row = await only("queued")
    assert (row.attempts, row.error, row.lease_until) == (1, "smtp 451", None)
    assert timedelta(seconds=1) < row.next_attempt_at - now() < timedelta(seconds=3)


async def test_what_is_due_again_is_sent_under_the_same_id(sending, email_wire, only, db, event):
    email_wire.answers = [Postponed("smtp 451")]
    async with sending() as deliver:
        await deliver(event())
        await only("queued")
    await lapse(db, next_attempt_at=now())
    async with sending():
        row = await only("sent")
    assert (row.attempts, row.error) == (2, None)
    assert email_wire.ids == [row.id, row.id]


async def test_a_final_refusal_is_not_tried_again(sending, email_wire, only, event):
    email_wire.answers = [Refused("smtp 550")]
    async with sending() as deliver:
        await deliver(event())
        row = await only("failed")
    assert (row.error, row.next_attempt_at, row.lease_until, row.sent_at) == ("smtp 550", None, None, None)


async def test_after_a_day_it_is_given_up(sending, email_wire, only, db, event):
    email_wire.answers = [Postponed("smtp 451"), Postponed("smtp 451")]
    async with sending() as deliver:
        await deliver(event())
        await only("queued")
    await lapse(db, next_attempt_at=now(), created_at=now() - timedelta(hours=24))
    async with sending():
        assert (await only("failed")).error == "smtp 451"


async def test_killed_between_send_and_commit_it_sends_again_under_the_same_id(sending, email_wire, only, db, event):
    async with sending() as deliver:
        await deliver(event())
        await only("sent")
    await lapse(db, status="sending", sent_at=None, lease_until=now())
    async with sending():
        row = await only("sent")
    assert email_wire.ids == [row.id, row.id]


async def test_a_row_that_is_leased_by_another_process_is_left_alone(sending, email_wire, only, db, event):
    async with sending() as deliver:
        await deliver(event())
        await only("sent")
    await lapse(db, status="sending", lease_until=now() + LEASE)
    async with sending():
        await asyncio.sleep(0.05)
    assert len(email_wire.ids) == 1


async def test_two_processes_never_claim_the_same_row(db, sending, wires, event):
    wires[ChannelName.EMAIL].answers = [Postponed("smtp 451") for _ in range(20)]
    async with sending() as deliver:
        for number in range(20):
            await deliver(event(orderId=f"o-{number}"))
        await eventually(lambda: len(wires[ChannelName.EMAIL].ids) == 20)
    await lapse(db, next_attempt_at=now())
    until = now() + LEASE

    def claim():
        return db.write(lambda conn: system.claim(conn, lease_until=until, limit=15))

    claimed = await asyncio.gather(claim(), claim(), claim())
    ids = [one.id for batch in claimed for one in batch]
    assert sorted(len(batch) for batch in claimed) == [0, 5, 15]
    assert len(set(ids)) == 20
    assert all(batch == sorted(batch, key=lambda one: one.id) for batch in claimed)


async def test_a_retried_push_that_was_overtaken_is_not_sent(sending, wires, only, db, event):
    wires[ChannelName.PUSH].answers = [Postponed("push 503")]
    async with sending() as deliver:
        await deliver(event("order.status-changed.v1", status="preparation", version=3))
        await only("queued")
    await lapse(db, next_attempt_at=now())
    await db.write(lambda conn: conn.execute(sa.update(orders).values(version=4)))
    async with sending():
        await only("superseded")
    assert len(wires[ChannelName.PUSH].ids) == 1


async def test_a_retried_email_stays_true_though_the_order_moved_on(sending, email_wire, only, db, event):
    email_wire.answers = [Postponed("smtp 451")]
    async with sending() as deliver:
        await deliver(event())
        await only("queued")
    await lapse(db, next_attempt_at=now())
    await db.write(lambda conn: conn.execute(sa.update(orders).values(version=4)))
    async with sending():
        await only("sent")


async def test_an_error_nobody_expected_costs_only_its_own_message(sending, email_wire, only, event):
    email_wire.answers = [RuntimeError("ada@example.com")]
    async with sending() as deliver:
        await deliver(event())
        assert (await only("queued")).error == "unexpected: RuntimeError"
        await deliver(event(orderId="o-2"))
        await only("sent")


async def test_stopping_finishes_what_is_under_way_and_gives_the_rest_back(sending, email_wire, db, event):
    email_wire.gate.clear()
    async with sending() as deliver:
        for number in range(5):
            await deliver(event(orderId=f"o-{number}"))
        await eventually(lambda: len(email_wire.ids) == 2)
        asyncio.get_running_loop().call_later(0.05, email_wire.gate.set)
    rows, _ = await Store(db, "default", None).history(Filter(), Page())
    assert sorted(row.status for row in rows) == ["queued"] * 3 + ["sent"] * 2
    assert all(row.next_attempt_at <= now() for row in rows if row.status == "queued")


async def test_results_survive_a_database_that_is_down_for_a_moment(sending, email_wire, only, db, event):
    write, failures = db.write, [OperationalError("UPDATE", {}, Exception("disk I/O error"))]
    email_wire.gate.clear()

    async def failing_once(work):
        if failures:
            raise failures.pop()
        return await write(work)

    async with sending() as deliver:
        await deliver(event())
        db.write = failing_once
        email_wire.gate.set()
        await only("sent")
    assert len(email_wire.ids) == 1


async def test_more_than_a_handful_waits_in_the_database_without_a_lease(sending, email_wire, db, event):
    email_wire.gate.clear()
    async with sending() as deliver:
        await asyncio.gather(*(deliver(event(orderId=f"o-{number}")) for number in range(300)))
        await deliver(event(orderId="late"))
        (late,), _ = await Store(db, "default", None).history(Filter(order_id="late"), Page())
        assert (late.status, late.lease_until) == ("queued", None)
        email_wire.gate.set()
        await eventually(lambda: len(email_wire.ids) == 301, within=3)
    assert len(set(email_wire.ids)) == 301


async def test_a_row_that_waited_too_long_in_hand_is_left_to_the_poll(sending, email_wire, event, monkeypatch):
    email_wire.gate.clear()
    async with sending() as deliver:
        for number in range(3):
            await deliver(event(orderId=f"o-{number}"))
        await eventually(lambda: len(email_wire.ids) == 2)
        monkeypatch.setattr("notification.sender.SEND_WITHIN", LEASE)
        email_wire.gate.set()
    assert len(email_wire.ids) == 2


async def test_what_is_logged_of_a_send_names_the_tenant(sending, email_wire, event):
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with sending() as deliver:
            await deliver(event(tenantid="acme"))
            await eventually(lambda: email_wire.ids, every=0.005)
    assert [line["tenant"] for line in logs if line["event"] == "notification.sent"] == ["acme"]
