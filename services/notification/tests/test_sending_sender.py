"""The sender over rows: what a crash, a lease, a retry and a second process do to them, and what is told of it."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import OperationalError

from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.events import consume
from chassis.ids import new_id, now
from chassis.leases import Leases
from chassis.outbox import Outbox
from chassis.tasks import Tasks
from notification import tables
from notification.announcements import FEED, Announcements
from notification.domain import ChannelName, Status
from notification.incoming.intake import Intake
from notification.incoming.routing_table import RouteTable
from notification.incoming.saga_records import takeover
from notification.outcomes import Delivered, Down, Postponed, Receipt, Refused, Suppressed
from notification.queue.claim import claim
from notification.queue.delivery_status import apply
from notification.queue.history import Filter, Notifications, Page
from notification.recipients.preferences import ChannelPreference, Preference, Preferences
from notification.recipients.unsubscribe_link import Unsubscribing
from notification.sending.compose import Wording
from notification.sending.sender import Sender
from notification.tables import notifications, subjects
from notification.templates.catalog import Catalog
from stack.eventually import eventually

LEASE = timedelta(seconds=30)


class Wire:
    """A channel that answers as told, well by default, and notes what it was asked to send."""

    concurrency = 2

    def __init__(self):
        self.answers = []
        self.messages = []
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def ids(self):
        return [message.id for message in self.messages]

    async def send(self, message):
        self.messages.append(message)
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else Delivered(subject="Hello")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self):
        return


class Choosy(Wire):
    """Of several providers: it says whom it asks, one after the other, and waits at the gate with the last of them."""

    def __init__(self, *providers, answer=None):
        super().__init__()
        self.gate.clear()
        self.providers = providers
        self.answer = answer or Delivered(provider=providers[-1], message_id="m-1")
        self.posted = []
        self.known = []

    async def send(self, message):
        self.known.append(message.provider)
        for provider in self.providers:
            await message.posting(provider)
            self.posted.append(provider)
        await self.gate.wait()
        return self.answer


@pytest.fixture
def wires():
    return {name: Wire() for name in ChannelName}


@pytest.fixture
def email_wire(wires):
    return wires[ChannelName.EMAIL]


@pytest.fixture
def sending(db, sidecar, wires):
    """A running sender, and what delivers an event to it."""
    leases = Leases(db, tables.leases)
    changes = Changes(db=db, table=tables.changes, leases=leases)
    outbox = Outbox(db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub="pubsub")
    cache = Cache(sidecar=sidecar, store="statestore", changes=None, name="notification")
    unsubscribing = Unsubscribing("http://test")
    unsubscribing.unlock("u" * 43)

    @asynccontextmanager
    async def run(**times):
        sender = Sender(
            db=db,
            channels=wires,
            wording=Wording(db=db, catalog=Catalog(db, cache), unsubscribing=unsubscribing, links={}),
            announcements=Announcements(outbox=outbox, changes=changes),
            **times,
        )
        hand_over = takeover(db, sidecar, past_timer=timedelta(minutes=1)).hand_over
        intake = Intake(db=db, routes=RouteTable(db=db, cache=cache), sender=sender, hand_over=hand_over, tasks=Tasks())
        await sender.start()

        async def deliver(body, topic="orders"):
            return await consume(topic, body, intake.take)

        setattr(deliver, "leases", sender._leases)  # noqa: B010  a function has no such attribute of its own
        try:
            yield deliver
        finally:
            await sender.stop()

    return run


@pytest.fixture
def history(db):
    async def rows(**wanted):
        found, _ = await db.read(lambda conn: Notifications(conn, "default").history(Filter(**wanted), Page()))
        return found

    return rows


@pytest.fixture
def only(history):
    """The one row there is, once an attempt has left it with this status, or it was closed without one."""

    async def look(status):
        async def found():
            rows = await history()
            row = rows[0] if rows and rows[0].status == status else None
            return None if row is not None and status == "queued" and row.attempts == 0 else row

        return await eventually(found, every=0.005)

    return look


@pytest.fixture
def told(db):
    """The types of the events that wait to be published, and the statuses in the recipient's change feed."""

    async def read():
        events = sa.select(tables.outbox.c.type).order_by(tables.outbox.c.seq)
        feed = sa.select(tables.changes.c.data).where(tables.changes.c.topic == FEED, tables.changes.c.key == "c-1")
        return await db.read(
            lambda conn: (
                list(conn.execute(events).scalars()),
                [json.loads(data)["status"] for data in conn.execute(feed.order_by(tables.changes.c.seq)).scalars()],
            )
        )

    return read


def payment():
    """By text message, and where that fails by e-mail."""
    data = {
        "loanId": "L-1",
        "customerId": "c-1",
        "customerName": "Ada",
        "customerPhone": "+254711000001",
        "customerEmail": "ada@example.com",
        "amountDue": {"amount": "125.00", "currency": "USD"},
        "dueDate": "2026-02-15",
    }
    return {"specversion": "1.0", "id": "e-1", "source": "collections", "type": "PaymentDue", "data": data}


@pytest.fixture
def payment_due():
    return payment()


def lapse(db, **columns):
    """What time, or a kill, does to every row."""
    return db.write(lambda conn: conn.execute(sa.update(notifications).values(columns)))


def move_on(db):
    """A newer version of every subject is heard of."""
    return db.write(lambda conn: conn.execute(sa.update(subjects).values(version=4)))


async def test_a_delivered_event_is_sent_and_written_down(sending, email_wire, only, event):
    async with sending() as deliver:
        await deliver(event())
        row = await only("sent")
    assert (row.subject, row.attempts, row.error, row.lease_until) == ("Hello", 1, None, None)
    assert row.sent_at >= row.created_at
    assert email_wire.ids == [row.id]
    assert "Latte" in email_wire.messages[0].rendered.text


async def test_a_passing_failure_is_tried_again_later(sending, email_wire, only, told, event):
    email_wire.answers = [Postponed("smtp 451")]
    async with sending() as deliver:
        await deliver(event())
        row = await only("queued")
    assert (row.attempts, row.error, row.lease_until) == (1, "smtp 451", None)
    assert timedelta(seconds=1) < row.next_attempt_at - now() < timedelta(seconds=3)
    assert await told() == ([], [])


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


async def test_an_address_that_is_none_bounces(sending, email_wire, only, told, event):
    email_wire.answers = [Refused("smtp 550 5.1.1", bounced=True)]
    async with sending() as deliver:
        await deliver(event())
        assert (await only("bounced")).error == "smtp 550 5.1.1"
    assert await told() == (["notification.failed.v1"], ["bounced"])


async def test_after_a_day_it_is_given_up(sending, email_wire, only, db, event):
    email_wire.answers = [Postponed("smtp 451"), Postponed("smtp 451")]
    async with sending() as deliver:
        await deliver(event())
        await only("queued")
    yesterday = now() - timedelta(hours=24)
    await lapse(db, next_attempt_at=now(), created_at=yesterday)
    await db.write(lambda conn: conn.execute(sa.update(tables.attempts).values(ended_at=yesterday)))
    async with sending():
        assert (await only("failed")).error == "smtp 451"


async def test_what_was_held_for_days_before_its_first_attempt_is_still_retried(sending, email_wire, only, db, event):
    email_wire.answers = [Postponed("smtp 451")]
    await db.write(
        lambda conn: Preferences(conn, "default").save("c-1", Preference(digests={"OrderUpdates": "08:00"}), 0)
    )
    async with sending() as deliver:
        await deliver(event())
        await lapse(db, next_attempt_at=now(), created_at=now() - timedelta(days=7))
        row = await only("queued")
    assert (row.status, row.error) == ("queued", "smtp 451")


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
    async with sending() as deliver:
        await deliver(event("order.cancelled.v1", orderId="o-2", status="cancelled", version=3))
        await eventually(lambda: len(email_wire.ids) == 2, every=0.005)
    assert len(set(email_wire.ids)) == 2


async def test_two_processes_never_claim_the_same_row(db, sending, email_wire, event):
    email_wire.answers = [Postponed("smtp 451") for _ in range(20)]
    async with sending() as deliver:
        for number in range(20):
            await deliver(event(orderId=f"o-{number}"))
        await eventually(lambda: len(email_wire.ids) == 20)
    await lapse(db, next_attempt_at=now())
    until = now() + LEASE

    def claims():
        return db.write(lambda conn: claim(conn, channel=ChannelName.EMAIL, lease_until=until, limit=15).messages)

    claimed = await asyncio.gather(claims(), claims(), claims())
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
    await move_on(db)
    async with sending():
        assert (await only("suppressed")).error == "superseded"
    assert len(wires[ChannelName.PUSH].ids) == 1


async def test_a_retried_email_stays_true_though_the_order_moved_on(sending, email_wire, only, db, event):
    email_wire.answers = [Postponed("smtp 451")]
    async with sending() as deliver:
        await deliver(event())
        await only("queued")
    await lapse(db, next_attempt_at=now())
    await move_on(db)
    async with sending():
        await only("sent")


# --- what ends without an attempt is told of as well ---


async def test_who_has_no_address_is_told_of(sending, told, event):
    async with sending() as deliver:
        await deliver(event(customer={"id": "c-1", "name": "Ada"}))
        await eventually(lambda: _is_told(told, ["notification.failed.v1"], ["failed"]), every=0.02)


async def test_what_nobody_wants_is_told_to_who_watches_and_to_no_service(sending, told, db, history, event):
    off = Preference(channels={ChannelName.EMAIL: ChannelPreference(enabled=False)})
    await db.write(lambda conn: Preferences(conn, "default").save("c-1", off, 0))
    async with sending() as deliver:
        await deliver(event())
        await eventually(lambda: _is_told(told, [], ["suppressed"]), every=0.02)
    (row,) = await history()
    assert (row.status, row.next_attempt_at, row.lease_until) == ("suppressed", None, None)
    async with sending() as deliver:  # once
        await deliver(event(orderId="o-2", customer={"id": "c-2", "name": "Bob", "email": "bob@example.com"}))
        await eventually(lambda: _is_told(told, ["notification.sent.v1"], ["suppressed"]), every=0.02)


async def test_what_came_too_late_is_told_to_who_watches(sending, told, event):
    async with sending() as deliver:
        await deliver(event("order.cancelled.v1", status="cancelled", version=3))
        await eventually(lambda: _is_told(told, ["notification.sent.v1"], ["sent"]), every=0.02)
        await deliver(event(version=2))
        await eventually(lambda: _is_told(told, ["notification.sent.v1"], ["sent", "suppressed"]), every=0.02)


async def test_what_was_overtaken_while_it_waited_is_told_to_who_watches(sending, wires, only, told, db, event):  # noqa: PLR0917
    wires[ChannelName.PUSH].answers = [Postponed("push 503")]
    async with sending() as deliver:
        await deliver(event("order.status-changed.v1", status="preparation", version=3))
        await only("queued")
    await lapse(db, next_attempt_at=now())
    await move_on(db)
    async with sending():
        await only("suppressed")
    assert await told() == ([], ["suppressed"])


async def test_a_wish_that_changed_while_it_waited_is_told_to_who_watches(sending, email_wire, only, told, db, event):  # noqa: PLR0917
    email_wire.answers = [Postponed("smtp 451")]
    async with sending() as deliver:
        await deliver(event())
        await only("queued")
    off = Preference(channels={ChannelName.EMAIL: ChannelPreference(enabled=False)})
    await db.write(lambda conn: Preferences(conn, "default").save("c-1", off, 0))
    await lapse(db, next_attempt_at=now())
    async with sending():
        await only("suppressed")
    assert await told() == ([], ["suppressed"])


async def _is_told(told, events, watched):
    return await told() == (events, watched)


# --- who may have it ---


async def test_who_is_asked_stands_in_the_row_before_a_word_is_said_and_outlives_a_kill(sending, wires, only, db):
    sms = wires[ChannelName.SMS] = Choosy("legacy")
    async with sending() as deliver:
        await deliver(payment(), "collections")
        await eventually(lambda: sms.posted, every=0.005)
        row = await only("sending")
        assert (row.provider, row.provider_message_id) == ("legacy", None)
        sms.gate.set()
        await only("sent")
    await lapse(db, status="sending", sent_at=None, lease_until=now(), provider="legacy")  # as a kill leaves it
    async with sending():
        await only("sent")
    assert sms.known == ["", "legacy"]


async def test_a_send_without_end_is_cut_off_in_time_and_stays_with_whom_it_was_asking(sending, wires, only):
    wires[ChannelName.SMS] = Choosy("africas-talking", "legacy")
    async with sending(send_within=timedelta(seconds=0.2)) as deliver:
        await deliver(payment(), "collections")
        row = await only("queued")
    assert (row.error, row.provider, row.lease_until) == ("timed out", "legacy", None)


async def test_who_surely_has_not_got_it_is_forgotten(sending, wires, only):
    sms = wires[ChannelName.SMS] = Choosy("legacy", answer=Postponed("legacy 407"))
    sms.gate.set()
    async with sending() as deliver:
        await deliver(payment(), "collections")
        assert (await only("queued")).provider is None


async def test_an_error_nobody_expected_costs_only_its_own_message(sending, email_wire, only, event):
    email_wire.answers = [RuntimeError("ada@example.com")]
    async with sending() as deliver:
        await deliver(event())
        assert (await only("queued")).error == "unexpected: RuntimeError"
        await deliver(event(orderId="o-2"))
        await only("sent")


async def test_a_result_that_cannot_be_written_down_costs_no_other_and_is_not_sent_again(
    sending, email_wire, history, event
):
    email_wire.answers = [Delivered(subject="\ud800")]  # no text that can be kept
    email_wire.gate.clear()

    async def both_sent():
        return [row.status for row in await history()] == ["sent"] * 2

    async with sending() as deliver:
        for number in range(2):
            await deliver(event(orderId=f"o-{number}"))
        await eventually(lambda: len(email_wire.ids) == 2)
        email_wire.gate.set()  # both end before anything is written down
        await eventually(both_sent)
    assert sorted(row.subject or "" for row in await history()) == ["", "Hello"]


async def test_what_postgresql_cannot_hold_is_left_out_of_what_is_written_down(sending, email_wire, only, event):
    email_wire.answers = [Delivered(subject="He\x00llo", provider="p", message_id="m\x00-1")]
    async with sending() as deliver:
        await deliver(event())
        assert (await only("sent")).subject == "Hello"


async def test_a_channel_that_hangs_keeps_no_other_waiting(sending, wires, email_wire, event):
    email_wire.gate.clear()
    async with sending() as deliver:
        for number in range(600):
            await deliver(event(orderId=f"o-{number}"))
        await deliver(payment(), "collections")
        await eventually(lambda: wires[ChannelName.SMS].ids)
        email_wire.gate.set()


async def test_one_whose_lease_ran_out_is_anothers_and_not_given_back(sending, email_wire, db, event, history):
    email_wire.gate.clear()
    other = now() + timedelta(minutes=1)

    async def all_leased():
        return [row.status for row in await history()] == ["sending"] * 3

    async with sending() as deliver:
        for number in range(3):
            await deliver(event(orderId=f"o-{number}"))
        await eventually(all_leased)
        await eventually(lambda: len(email_wire.ids) == 2)
        waiting = notifications.c.id.not_in(email_wire.ids)
        await db.write(lambda conn: conn.execute(sa.update(notifications).where(waiting).values(lease_until=other)))
        email_wire.gate.set()
    row = await db.read(lambda conn: conn.execute(sa.select(notifications).where(waiting)).one())
    assert (row.status, row.lease_until) == ("sending", other)


@pytest.mark.parametrize(
    "stale", [Refused("no such number"), Down("breaker open"), Postponed("timed out"), Suppressed("no account")]
)
async def test_what_another_process_is_sending_is_not_ended_by_who_had_it_before(  # noqa: PLR0917
    sending, wires, history, db, payment_due, stale
):
    sms, others = wires[ChannelName.SMS], now() + timedelta(minutes=1)
    sms.answers = [stale]
    sms.gate.clear()
    async with sending() as deliver:
        await deliver(payment_due, "collections")
        await eventually(lambda: sms.ids)
        await lapse(db, lease_until=others)
        sms.gate.set()
    (row,) = await history()
    assert (row.status, row.channel, row.lease_until, row.attempts) == ("sending", "sms", others, 0)
    (tried,) = await db.read(lambda conn: Notifications(conn, "default").attempts(row.id))
    assert tried.outcome == type(stale).__name__.lower()


async def test_stopping_finishes_what_is_under_way_and_gives_the_rest_back(sending, email_wire, history, event):
    email_wire.gate.clear()
    async with sending() as deliver:
        for number in range(5):
            await deliver(event(orderId=f"o-{number}"))
        await eventually(lambda: len(email_wire.ids) == 2)
        asyncio.get_running_loop().call_later(0.05, email_wire.gate.set)
    rows = await history()
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
        await eventually(lambda: email_wire.ids, every=0.005)
        db.write = failing_once
        email_wire.gate.set()
        await only("sent")
    assert not failures
    assert len(email_wire.ids) == 1


async def test_more_than_a_handful_waits_in_the_database_without_a_lease(sending, email_wire, history, event):
    email_wire.gate.clear()
    async with sending() as deliver:
        await asyncio.gather(*(deliver(event(orderId=f"o-{number}")) for number in range(300)))
        await deliver(event(orderId="late"))
        (late,) = await history(subject_id="late")
        assert (late.status, late.lease_until) == ("queued", None)
        email_wire.gate.set()
        await eventually(lambda: len(set(email_wire.ids)) == 301)
    assert len(email_wire.ids) == 301  # none of them twice


async def test_what_is_in_hand_is_taken_up_by_nobody_else_of_this_process(sending, email_wire, history, db, event):
    """However late it is: its lease runs out while it is being sent, and while it waits to be."""
    email_wire.gate.clear()
    async with sending() as deliver:
        for number in range(5):
            await deliver(event(orderId=f"o-{number}"))
        await eventually(lambda: len(email_wire.ids) == 2 and len(deliver.leases) == 5)
        await lapse(db, lease_until=now())
        deliver.leases.update(dict.fromkeys(deliver.leases, now()))
        await deliver(event(orderId="o-5"))
        await _polled(db)
        assert sum(row.lease_until <= now() for row in await history(recipient_id="c-1")) == 5
        email_wire.gate.set()
        await eventually(lambda: len(set(email_wire.ids)) == 6)
        await eventually(lambda: _all_sent(history))
    assert len(email_wire.ids) == 6


async def _polled(db):
    """The poll has looked for what is due: it finds a row that waits, and by its wish closes it."""
    off = Preference(channels={ChannelName.EMAIL: ChannelPreference(enabled=False)})
    await db.write(lambda conn: Preferences(conn, "default").save("c-8", off, 0))
    row = {"id": new_id(), "tenant": "default", "effect": "polled", "owner": "", "event_id": "e", "subject_id": ""}
    row |= {"recipient_id": "c-8", "channel": "email", "address": "eve@example.com", "template": "t", "context": "{}"}
    row |= {"version": 0, "attempts": 0, "traceparent": "", "created_at": now()}
    waiting = sa.insert(notifications).values(**row, status="queued", next_attempt_at=now())
    await db.write(lambda conn: conn.execute(waiting))
    status = sa.select(notifications.c.status).where(notifications.c.effect == "polled")

    async def closed():
        return await db.read(lambda conn: conn.execute(status).scalar_one()) == "suppressed"

    await eventually(closed, every=0.02)


async def _all_sent(history):
    return {row.status for row in await history(channel="email") if row.recipient_id == "c-1"} == {"sent"}


async def test_a_row_that_waited_too_long_in_hand_is_left_to_the_poll(sending, email_wire, event, monkeypatch):
    email_wire.gate.clear()
    async with sending() as deliver:
        for number in range(3):
            await deliver(event(orderId=f"o-{number}"))
        await eventually(lambda: len(email_wire.ids) == 2)
        monkeypatch.setattr("notification.sending.sender.WRITE_DOWN", LEASE)
        email_wire.gate.set()
    assert len(email_wire.ids) == 2


async def test_what_is_logged_of_a_send_names_the_tenant_and_no_address(sending, email_wire, event):
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with sending() as deliver:
            await deliver(event(tenantid="acme"))
            await eventually(lambda: email_wire.ids, every=0.005)
    assert [line["tenant"] for line in logs if line["event"] == "notification.sent"] == ["acme"]
    assert not any("ada" in str(line).lower() for line in logs)


@pytest.mark.parametrize("broken", [{}, {"trackingNumber": "1Z999", "items": "latte"}])
async def test_what_its_template_cannot_word_fails_and_says_where_but_not_what(
    sending, email_wire, history, event, broken
):
    async with sending() as deliver:
        await deliver(event("order.shipped.v1", **broken))

        async def failed():
            return [row for row in await history(channel="email") if row.status == "failed"]

        (row,) = await eventually(failed, every=0.005)
    assert row.error.startswith("template OrderUpdates/order-shipped")
    assert email_wire.ids == []


# --- the next channel of the chain ---


@pytest.mark.parametrize("ended", [Refused("no such number"), Refused("gone", bounced=True), Down("breaker open")])
async def test_where_a_channel_cannot_the_next_of_the_chain_takes_over(sending, wires, only, db, payment_due, ended):  # noqa: PLR0917
    wires[ChannelName.SMS].answers = [ended]
    async with sending() as deliver:
        await deliver(payment_due, "collections")
        row = await only("sent")
    assert (row.channel, row.address, row.chain, row.attempts) == ("email", "ada@example.com", "", 2)
    assert wires[ChannelName.SMS].ids == wires[ChannelName.EMAIL].ids == [row.id]
    tried = await db.read(lambda conn: Notifications(conn, "default").attempts(row.id))
    assert [(one.channel, one.outcome, one.error) for one in tried] == [
        ("sms", type(ended).__name__.lower(), ended.error),
        ("email", "delivered", None),
    ]


async def test_what_may_have_been_taken_stays_with_its_channel(sending, wires, only, payment_due):
    wires[ChannelName.SMS].answers = [Postponed("timed out")]
    async with sending() as deliver:
        await deliver(payment_due, "collections")
        row = await only("queued")
    assert (row.channel, row.chain) == ("sms", "email")
    assert wires[ChannelName.EMAIL].ids == []


async def test_what_nobody_answered_for_a_day_goes_by_the_next_channel_which_has_a_day_of_its_own(  # noqa: PLR0917
    sending, wires, only, history, db, payment_due
):
    wires[ChannelName.SMS].answers = [Postponed("timed out", "legacy")] * 2
    wires[ChannelName.EMAIL].answers = [Postponed("smtp 451")]
    async with sending() as deliver:
        await deliver(payment_due, "collections")
        await only("queued")
    yesterday = now() - timedelta(hours=24)
    await lapse(db, next_attempt_at=now(), created_at=yesterday)
    await db.write(lambda conn: conn.execute(sa.update(tables.attempts).values(ended_at=yesterday)))

    async def by_email():
        (row,) = await history()
        return row if row.attempts == 3 else None

    async with sending():
        row = await eventually(by_email)
    assert (row.status, row.channel, row.error, row.provider) == ("queued", "email", "smtp 451", None)


async def test_at_the_end_of_the_chain_a_refusal_is_final(sending, wires, only, told, payment_due):
    wires[ChannelName.SMS].answers = [Refused("no such number")]
    wires[ChannelName.EMAIL].answers = [Refused("smtp 550")]
    async with sending() as deliver:
        await deliver(payment_due, "collections")
        assert (await only("failed")).error == "smtp 550"
    assert await told() == (["notification.failed.v1"], ["failed"])  # nothing of the channel between


async def test_with_nobody_there_the_last_channel_is_asked_again(sending, email_wire, only, event):
    email_wire.answers = [Down("connection refused")]
    async with sending() as deliver:
        await deliver(event())
        row = await only("queued")
    assert (row.channel, row.error) == ("email", "connection refused")
    assert row.next_attempt_at > now()


# --- what is told of it ---


async def test_a_message_that_was_sent_is_told_to_services_and_to_who_watches(sending, only, told, db, event):
    async with sending() as deliver:
        await deliver(event(ownerId="u-7"))
        row = await only("sent")
    assert await told() == (["notification.sent.v1"], ["sent"])
    published = await db.read(lambda conn: conn.execute(sa.select(tables.outbox)).one())
    assert (published.tenant, published.aggregate_id, published.topic) == ("default", row.id, "notifications")
    assert json.loads(published.data)["ownerId"] == "u-7"
    assert "ada@example.com" not in published.data


async def test_a_receipt_that_came_before_its_answer_is_applied_with_it(sending, email_wire, only, told, db, event):  # noqa: PLR0917
    email_wire.gate.clear()
    async with sending() as deliver:
        await deliver(event())
        (sent,) = await eventually(lambda: email_wire.ids, every=0.005)
        early = Receipt(provider="smtp", message_id=sent, status=Status.DELIVERED)
        assert await db.write(lambda conn: apply(conn, early)) == []
        email_wire.gate.set()
        row = await only("delivered")
    assert row.delivered_at is not None
    assert row.sent_at is not None
    assert await told() == (["notification.sent.v1", "notification.delivered.v1"], ["sent", "delivered"])


async def test_a_digest_goes_out_as_one_message_and_ends_all_it_carries(sending, email_wire, history, told, db, event):  # noqa: PLR0917
    wish = Preference(digests={"OrderUpdates": "08:00"})
    await db.write(lambda conn: Preferences(conn, "default").save("c-1", wish, 0))
    async with sending() as deliver:
        await deliver(event())
        await deliver(event("order.cancelled.v1", status="cancelled", version=3))
        assert email_wire.ids == []
        await lapse(db, next_attempt_at=now(), created_at=now() - timedelta(days=2))

        async def ended():
            rows = await history()
            return rows if {row.status for row in rows} == {"sent"} else None

        rows = await eventually(ended, every=0.005)
    (message,) = email_wire.messages
    assert len(rows) == 2
    assert all(row.sent_at is not None for row in rows)
    assert message.rendered.subject == "2 messages: OrderUpdates"
    assert await told() == (["notification.sent.v1"] * 2, ["sent"] * 2)
