"""Receipts that never came: who is asked for them, when, and what the answer moves."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from chassis.ids import new_id, now
from chassis.sidecar import Answer
from notification.app import create_app
from notification.channels.sms.providers.wire import SmsStatus, Text
from notification.domain import ChannelName, Notification, Status
from notification.outcomes import Delivered, Receipt, Settled
from notification.queue.delivery_status import claim_status_questions
from notification.queue.enqueue import enqueue
from notification.queue.record_outcome import early, settle
from notification.receipts.inbound import Receipts
from notification.receipts.status_polling import StatusPolling
from notification.tables import notifications
from stack.eventually import eventually
from stack.serving import serving

LEASE = timedelta(seconds=30)

PATIENCE = timedelta(minutes=5)
A_LITTLE = timedelta(seconds=30)
PHONE = "+254711000111"


class Provider:
    """Tells of each message what stands in `known`, or raises it; `asked` are those it was asked for."""

    name = "legacy"
    askable = True

    def __init__(self) -> None:
        self.known: dict[str, SmsStatus | Exception] = {}
        self.asked: list[str] = []
        self.under_way = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def unlock(self, key: str) -> None:
        raise NotImplementedError

    async def send(self, text: Text) -> Any:
        raise NotImplementedError

    async def send_bulk(self, texts: Sequence[Text]) -> Any:
        raise NotImplementedError

    async def status(self, message_id: str) -> SmsStatus:
        self.asked.append(message_id)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.gate.wait()
        self.under_way -= 1
        answer = self.known.get(message_id, SmsStatus.UNKNOWN)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def heard() -> list[tuple[str, str]]:
    """What was told of rows that moved: tenant and status."""
    return []


@pytest.fixture
def receipts(db, heard):
    def told(_conn: sa.Connection, rows: Any) -> None:
        heard.extend((row.tenant, row.status) for row in rows)

    return Receipts(db=db, announce=told, wake=lambda: None)


def text(tenant: str = "default") -> Notification:
    return Notification(
        id=new_id(),
        tenant=tenant,
        effect=new_id(),
        owner="u-1",
        event_id="e-1",
        recipient_id="c-1",
        channel=ChannelName.SMS,
        address=PHONE,
        category="OrderUpdates",
        template="order-ready",
        locale="en",
        context={},
        traceparent="",
        created_at=now(),
        lease_until=now() + LEASE,
    )


TAKEN = Delivered(provider="legacy", message_id="m-1", askable=True)


def take(conn: sa.Connection, message: Notification, outcome: Delivered) -> None:
    """As the sender writes it down."""
    enqueue(conn, [message], at=now())
    ended = [Settled(notification=message, outcome=outcome, at=now())]
    settle(conn, ended)
    early(conn, ended)


@pytest.fixture
def sent(db):
    """A text as its provider took it; its id."""

    async def insert(message_id: str = "m-1", *, tenant: str = "default", **outcome: Any) -> str:
        message = text(tenant)
        await db.write(lambda conn: take(conn, message, replace(TAKEN, message_id=message_id, **outcome)))
        return message.id

    return insert


@pytest.fixture
def ask_after(db, receipts, provider):
    """A run of the job once so much more time has gone by since everything was sent."""
    polling = StatusPolling(db=db, receipts=receipts, providers={"legacy": provider}, patience=PATIENCE)

    def age(conn: sa.Connection, time: timedelta) -> None:
        c = notifications.c
        for one in conn.execute(sa.select(c.id, c.sent_at, c.ask_at).where(c.ask_at.is_not(None))).all():
            older = {"sent_at": one.sent_at - time, "ask_at": one.ask_at - time}
            conn.execute(sa.update(notifications).where(c.id == one.id).values(older))

    async def run(time: timedelta) -> None:
        await db.write(lambda conn: age(conn, time))
        await polling.poll()

    return run


# --- what the answer moves ---


async def test_a_message_whose_receipt_was_lost_is_delivered_once_its_provider_says_so(
    ask_after, provider, sent, row, heard
):
    one, provider.known["m-1"] = await sent(), SmsStatus.DELIVERED
    await ask_after(PATIENCE - A_LITTLE)
    assert (provider.asked, (await row(one)).status) == ([], "sent")

    await ask_after(A_LITTLE)
    after = await row(one)
    assert (provider.asked, after.status, after.ask_at, after.error) == (["m-1"], "delivered", None, None)
    assert after.delivered_at is not None
    assert heard == [("default", "delivered")]


async def test_one_that_failed_unheard_is_found_out(ask_after, provider, sent, row, heard):
    one, provider.known["m-1"] = await sent(), SmsStatus.FAILED
    await ask_after(PATIENCE)
    after = await row(one)
    assert (after.status, after.ask_at, after.error, after.delivered_at) == ("failed", None, "failed", None)
    assert heard == [("default", "failed")]


async def test_every_tenants_are_asked_for_and_told_to_the_tenant(ask_after, provider, sent, row, heard):
    told = {tenant: await sent(f"m-{tenant}", tenant=tenant) for tenant in ("blue", "red")}
    provider.known = {"m-blue": SmsStatus.DELIVERED, "m-red": SmsStatus.FAILED}
    await ask_after(PATIENCE)
    assert sorted(heard) == [("blue", "delivered"), ("red", "failed")]
    assert [(await row(one)).status for one in told.values()] == ["delivered", "failed"]


async def test_what_went_out_in_a_digest_shares_the_answer(db, ask_after, provider, sent, row):
    carrier, carried = await sent(), text()
    inside = {"digest_of": carrier, "status": Status.SENT, "lease_until": None}

    def carry(conn: sa.Connection) -> None:
        enqueue(conn, [carried], at=now())
        conn.execute(sa.update(notifications).where(notifications.c.id == carried.id).values(inside))

    await db.write(carry)
    provider.known["m-1"] = SmsStatus.DELIVERED
    await ask_after(PATIENCE)
    assert provider.asked == ["m-1"]
    assert [(await row(one)).status for one in (carrier, carried.id)] == ["delivered", "delivered"]


async def test_a_receipt_that_comes_while_its_provider_is_asked_has_the_last_word(
    ask_after, provider, receipts, sent, row
):
    one, provider.known["m-1"] = await sent(), SmsStatus.DELIVERED
    provider.gate.clear()
    asking = asyncio.create_task(ask_after(PATIENCE))
    await eventually(lambda: provider.asked)
    await receipts.take(Receipt(provider="legacy", message_id="m-1", status=Status.FAILED, error="Failed"))
    provider.gate.set()
    await asking
    after = await row(one)
    assert (after.status, after.error, after.delivered_at) == ("failed", "Failed", None)


# --- who is asked ---


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.BOUNCED, Status.FAILED])
@pytest.mark.parametrize("when", ["before its answer was written down", "in time", "after it was asked for"])
async def test_whose_receipt_came_is_not_asked_for(ask_after, provider, receipts, sent, row, *, status, when):
    receipt = Receipt(provider="legacy", message_id="m-1", status=status)
    if when == "before its answer was written down":
        await receipts.take(receipt)
    one = await sent()
    if when == "after it was asked for":
        await ask_after(PATIENCE)
    if when != "before its answer was written down":
        await receipts.take(receipt)
    provider.asked.clear()
    await ask_after(timedelta(days=1))
    assert ((await row(one)).status, (await row(one)).ask_at, provider.asked) == (status, None, [])


@pytest.mark.parametrize("outcome", [{"askable": False}, {"message_id": ""}], ids=["cannot be asked", "no name"])
async def test_who_cannot_tell_is_not_asked(ask_after, provider, sent, row, outcome):
    one = await sent(**outcome)
    await ask_after(timedelta(days=1))
    assert ((await row(one)).status, (await row(one)).ask_at, provider.asked) == ("sent", None, [])


# --- when, and how often ---


@pytest.mark.parametrize("word", [SmsStatus.QUEUED, SmsStatus.SENT, SmsStatus.UNKNOWN])
async def test_without_a_last_word_it_is_asked_for_again_and_not_before_its_time(
    ask_after, provider, sent, row, *, word
):
    one, provider.known["m-1"] = await sent(), word
    await ask_after(PATIENCE)
    assert (await row(one)).status == "sent"
    await ask_after(2 * PATIENCE - A_LITTLE)
    assert provider.asked == ["m-1"]
    await ask_after(2 * A_LITTLE)
    assert provider.asked == ["m-1"] * 2


async def test_the_waits_double_and_end_three_days_after_it_was_sent(ask_after, provider, sent, row):
    one = await sent()
    ages: list[timedelta] = []
    while (ask_at := (await row(one)).ask_at) is not None:
        await ask_after(ask_at + PATIENCE - now())
        ages.append(now() - (await row(one)).sent_at)
    minutes = [5, 15, 35, 75, 155, 315, 635, 1275, 2555, 3 * 24 * 60 + 5]
    assert [age / timedelta(minutes=1) for age in ages] == pytest.approx(minutes, rel=0.05)
    assert len(provider.asked) == len(minutes)
    assert (await row(one)).status == "sent"


async def test_a_provider_that_breaks_keeps_no_other_message_waiting_and_is_asked_again(ask_after, provider, sent, row):
    broken, gone, fine = await sent("m-1"), await sent("m-2", provider="sold"), await sent("m-3")
    provider.known = {"m-1": RuntimeError(f"no answer for {PHONE}"), "m-3": SmsStatus.DELIVERED}
    with capture_logs() as logs:
        await ask_after(PATIENCE)
    assert [(await row(one)).status for one in (broken, gone, fine)] == ["sent", "sent", "delivered"]
    assert {log["item"] for log in logs if log["event"] == "item.failed"} == {broken, gone}
    assert PHONE not in str(logs)

    provider.known["m-1"] = SmsStatus.DELIVERED
    await ask_after(2 * PATIENCE + A_LITTLE)
    assert (await row(broken)).status == "delivered"


async def test_what_a_process_was_asking_for_when_it_died_is_asked_for_at_its_next_time(ask_after, provider, sent, row):
    one, provider.known["m-1"] = await sent(), SmsStatus.DELIVERED
    provider.gate.clear()
    asking = asyncio.create_task(ask_after(PATIENCE))
    await eventually(lambda: provider.asked)
    asking.cancel()
    await asyncio.wait([asking])
    provider.gate.set()
    await ask_after(A_LITTLE)
    assert ((await row(one)).status, provider.asked) == ("sent", ["m-1"])
    await ask_after(2 * PATIENCE)
    assert (await row(one)).status == "delivered"


async def test_a_run_asks_for_all_that_are_due_a_few_at_once(db, ask_after, provider):
    def work(conn: sa.Connection) -> None:
        for number in range(101):
            take(conn, text(), replace(TAKEN, message_id=f"m-{number}"))

    await db.write(work)
    provider.gate.clear()
    asking = asyncio.create_task(ask_after(PATIENCE))
    await eventually(lambda: provider.under_way == 8)
    provider.gate.set()
    await asking
    assert sorted(provider.asked) == sorted(f"m-{number}" for number in range(101))
    assert provider.most == 8


def test_two_replicas_never_ask_for_the_same_one_at_once(on_postgres):
    old = {"ask_at": now() - PATIENCE, "sent_at": now() - PATIENCE}
    with on_postgres.begin() as conn:
        take(conn, text(), TAKEN)
        conn.execute(sa.update(notifications).values(old))
    with on_postgres.begin() as first, on_postgres.begin() as second:
        second.execute(sa.text("SET LOCAL lock_timeout = '5s'"))
        asked = [claim_status_questions(conn, PATIENCE) for conn in (first, second)]
        assert [[row.provider_message_id for row in rows] for rows in asked] == [["m-1"], []]
    with on_postgres.begin() as conn:
        assert claim_status_questions(conn, PATIENCE) == []


# --- the whole service ---


@pytest.fixture
async def client(settings, sidecar, issuer, by_sidecar):
    """The service with no patience. Its first SMS provider takes nothing, and of the second no receipt comes."""
    sidecar.answers |= {
        "sms/version1/messaging": Answer(status=401, data=None),
        "sms-legacy/legacy/sms/send": Answer(status=200, data={"IsSuccess": True, "TransactionId": "t-1"}),
        "sms-legacy-lookup/legacy/sms/status": Answer(status=200, data={"status": "Delivered"}),
    }
    app = create_app(settings.model_copy(update={"look_up_after": 0.001}), sidecar=sidecar)
    async with serving(app, by_sidecar | issuer.bearer("admin", sub="a-1")) as client:
        yield client


async def test_the_service_asks_by_a_job_of_its_own(client, sidecar):
    ada = {"name": "Ada", "phone": PHONE, "version": 0}
    assert (await client.put("/api/v1/recipients/c-1", json=ada)).status_code == 200
    command = {"eventId": "e-1", "recipientId": "c-1", "channel": "sms"}
    command |= {"templateCategory": "System", "templateName": "test"}
    answer = await client.post("/api/v1/notifications", json=command)
    one = f"/api/v1/notifications/{answer.json()['notificationId']}"

    async def becomes(status: str) -> bool:
        assert (await client.get(one)).json()["status"] == status
        return True

    await eventually(lambda: becomes("sent"))
    assert sidecar.jobs["NotificationLookUps"] == "@every 60s"
    assert (await client.post("/job/NotificationLookUps", json={})).status_code == 200
    await eventually(lambda: becomes("delivered"))
    assert sidecar.invoked[-1][0] == "sms-legacy-lookup/legacy/sms/status?transactionId=t-1"
