import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

import notification.store as persistence
from chassis.db import Database
from chassis.events import consume
from chassis.ids import now
from notification.domain import LEASE
from notification.sender import Sender
from notification.store import Filter, Page, Store
from notification.subscriptions import dead_letter, keep_dead_letters, order_handlers

SUCCESS, RETRY, DROP = {"status": "SUCCESS"}, {"status": "RETRY"}, {"status": "DROP"}


class Idle(Sender):
    """Takes what it is handed, and sends nothing."""

    def __init__(self):
        self.taken = []

    def lease(self):
        return now() + LEASE

    def hand_over(self, leased):
        self.taken += leased


class DownDatabase(Database):
    def __init__(self):
        super().__init__("sqlite:////nowhere/at/all.db")

    async def write(self, work):  # noqa: ARG002  the real one's signature
        raise OperationalError("INSERT", {}, Exception("disk I/O error"))


@pytest.fixture
def sender():
    return Idle()


@pytest.fixture
def deliver(db, sender):
    handlers = order_handlers(db, sender)
    return lambda body: consume(body, handlers)


@pytest.fixture
def history(db):
    async def rows(tenant="default", **wanted):
        found, _ = await Store(db, tenant, None).history(Filter(**wanted), Page(size=100))
        return [(row.channel, row.template, row.status) for row in reversed(found)]

    return rows


async def test_an_event_becomes_one_leased_row_and_is_handed_to_the_sender(deliver, sender, history, event):
    assert await deliver(event()) == SUCCESS
    assert await history() == [("email", "order_confirmed", "sending")]
    assert [one.address for one in sender.taken] == ["ada@example.com"]


async def test_an_event_delivered_twice_has_one_effect(deliver, sender, history, event):
    once = event()
    assert [await deliver(once), await deliver(once)] == [SUCCESS, SUCCESS]
    assert len(await history()) == 1
    assert len(sender.taken) == 1


async def test_ready_is_told_by_mail_and_push(deliver, sender, history, event):
    await deliver(event("order.status-changed.v1", status="ready", version=4))
    assert await history() == [("email", "order_ready", "sending"), ("push", "order_status", "sending")]
    assert sender.taken[1].context["status"] == "prepared"


async def test_an_older_event_after_a_newer_one_is_kept_and_not_sent(deliver, sender, history, event):
    await deliver(event("order.cancelled.v1", status="cancelled", version=3))
    assert await deliver(event(version=2)) == SUCCESS
    assert await history() == [("email", "order_cancelled", "sending"), ("email", "order_confirmed", "superseded")]
    assert [one.template for one in sender.taken] == ["order_cancelled"]


async def test_an_older_event_is_no_older_for_another_order_or_tenant(deliver, sender, event):
    await deliver(event("order.cancelled.v1", version=3))
    await deliver(event(version=2, orderId="o-2"))
    await deliver(event(version=2, tenantid="other"))
    assert len(sender.taken) == 3


async def test_a_tenant_sees_only_its_own(deliver, history, event):
    await deliver(event(tenantid="other"))
    assert await history() == []
    assert len(await history("other")) == 1


async def test_a_notification_is_its_orders_owners(deliver, sender, event):
    await deliver(event(ownerId="u-7"))
    await deliver(event(orderId="o-2"))
    assert [one.owner for one in sender.taken] == ["u-7", "c-1"]  # without one it is the recipient's
    assert "owner_id" not in sender.taken[0].context


async def test_two_tenants_may_have_events_of_one_id(deliver, history, event):
    for tenant in ("default", "other"):
        assert await deliver(event(id="e-1", tenantid=tenant)) == SUCCESS
    assert len(await history()) == len(await history("other")) == 1


async def test_a_status_that_nobody_is_told_still_counts_as_newer(deliver, history, event):
    assert await deliver(event("order.status-changed.v1", status="polished", version=9)) == SUCCESS
    await deliver(event(version=2))
    assert await history() == [("email", "order_confirmed", "superseded")]


async def test_a_type_nobody_is_told_of_is_acknowledged(deliver, history, event):
    assert await deliver(event("order.created.v1")) == SUCCESS
    assert await history() == []


@pytest.mark.parametrize(
    "broken",
    [
        {"version": 0},
        {"customer": None},
        {"orderId": "o-1\r\nBcc: eve"},
        {"items": "latte"},
        {"orderId": ""},
        {"ownerId": ""},
        {"ownerId": "u" * 256},
    ],
)
async def test_a_poison_event_is_dropped_and_leaves_nothing(deliver, history, event, broken):
    assert await deliver(event(**broken)) == DROP
    assert await history() == []


async def test_a_shipment_without_a_tracking_number_is_dropped(deliver, event):
    assert await deliver(event("order.shipped.v1")) == DROP
    assert await deliver(event("order.shipped.v1", trackingNumber="1Z999")) == SUCCESS


async def test_what_is_no_event_is_dropped(deliver):
    assert await deliver({"nonsense": True}) == DROP


async def test_a_database_that_is_down_asks_for_the_event_again(sender, event):
    assert await consume(event(), order_handlers(DownDatabase(), sender)) == RETRY
    assert sender.taken == []


async def test_the_effect_and_its_record_are_one_transaction(deliver, history, event, monkeypatch):
    poison = event()

    def broken(*_, **__):
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(persistence, "_row", broken)
        assert await deliver(poison) == DROP
    assert await deliver(poison) == SUCCESS  # not taken for done
    assert len(await history()) == 1


def test_a_dead_letter_keeps_what_it_can_of_garbage():
    garbage = dead_letter(b"\xff\x00 no event")
    assert garbage.event_id.startswith("sha256:")
    assert (garbage.tenant, garbage.topic, garbage.type) == ("default", "", "")
    assert "\x00" not in garbage.body
    odd = dead_letter(b'{"id": 7, "topic": "orders.dead", "type": "x", "tenantid": "' + b"t" * 65 + b'"}')
    assert odd.event_id.startswith("sha256:")
    assert (odd.tenant, odd.topic, odd.type) == ("default", "orders", "x")
    assert dead_letter(b"[1]").type == ""


async def test_dead_letters_wait_for_a_database_that_is_down(event):
    app = FastAPI()
    keep_dead_letters(app, "/events/dead", DownDatabase())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.post("/events/dead", json=event())).json() == RETRY
