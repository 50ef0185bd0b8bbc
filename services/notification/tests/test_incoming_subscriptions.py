"""Events in, each taken once: what becomes of them by the routing table, and the dead letters."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from chassis.cache import Cache
from chassis.db import Database
from chassis.events import consume
from chassis.ids import now
from chassis.tasks import Tasks
from notification import tables
from notification.domain import ChannelName
from notification.incoming.dead_letter_records import DeadLetters, LetterFilter, Outcome
from notification.incoming.dead_letters import dead_letter, keep, keep_once
from notification.incoming.intake import Intake
from notification.incoming.routing_table import EventRoute, Route, Routes, RouteTable
from notification.incoming.saga_records import takeover
from notification.queue.claim import claim
from notification.queue.history import Filter, Notifications, Page
from notification.recipients.contacts import Contact, Contacts
from notification.recipients.preferences import ChannelPreference, Preference, Preferences
from notification.sending.sender import Sender

LEASE = timedelta(seconds=30)

SUCCESS, RETRY = {"status": "SUCCESS"}, {"status": "RETRY"}


class Idle(Sender):
    """Takes up what is due when it is woken, and sends nothing."""

    def __init__(self):
        self.taken = []
        self.woken = False

    def wake(self):
        self.woken = True

    async def take_up(self, database):
        if self.woken:
            for channel in ChannelName:
                take_up = partial(claim, channel=channel, lease_until=now() + LEASE, limit=100)
                self.taken += (await database.write(take_up)).messages
        self.woken = False


class DownDatabase(Database):
    def __init__(self):
        super().__init__("sqlite:////nowhere/at/all.db")

    async def write(self, work):  # noqa: ARG002  the real one's signature
        raise OperationalError("INSERT", {}, Exception("disk I/O error"))

    read = write


@pytest.fixture
def sender():
    return Idle()


@pytest.fixture
async def tasks():
    tasks = Tasks()
    yield tasks
    await tasks.drain(within=1)


@pytest.fixture
def taking(sidecar, sender, tasks):
    """What delivers events to the intake over a database."""

    def over(database):
        cache = Cache(sidecar=sidecar, store="statestore", changes=None, name="notification")
        routes = RouteTable(db=database, cache=cache)
        hand_over = takeover(database, sidecar, past_timer=timedelta(minutes=1)).hand_over
        intake = Intake(db=database, routes=routes, sender=sender, hand_over=hand_over, tasks=tasks)

        async def deliver(body, topic="orders"):
            answer = await consume(topic, body, intake.take)
            await sender.take_up(database)
            return answer

        return deliver

    return over


@pytest.fixture
def deliver(db, taking):
    return taking(db)


@pytest.fixture
def rows(db):
    async def read(tenant="default"):
        found, _ = await db.read(lambda conn: Notifications(conn, tenant).history(Filter(), Page(size=100)))
        return list(reversed(found))

    return read


@pytest.fixture
def history(rows):
    async def read(tenant="default"):
        return [(row.channel, row.template, row.status) for row in await rows(tenant)]

    return read


@pytest.fixture
def wish(db):
    """What the customer of the orders wants."""
    return lambda preference: db.write(lambda conn: Preferences(conn, "default").save("c-1", preference, 0))


def registered(**data):
    body = {"customerId": "c-1", "customerName": "Ada", "customerEmail": "ada@example.com"} | data
    return {"specversion": "1.0", "id": data.pop("id", "e-1"), "type": "UserRegistered", "data": body}


async def test_an_event_becomes_one_row_and_the_sender_is_woken(deliver, sender, history, event):
    assert await deliver(event()) == SUCCESS
    assert await history() == [("email", "order-confirmed", "sending")]
    assert [one.address for one in sender.taken] == ["ada@example.com"]


async def test_an_event_delivered_twice_has_one_effect(deliver, sender, history, event):
    once = event()
    assert [await deliver(once), await deliver(once)] == [SUCCESS, SUCCESS]
    assert len(await history()) == 1
    assert len(sender.taken) == 1


@pytest.mark.parametrize("version", [None, 1.0])
async def test_a_version_may_be_null_or_a_number_with_a_point(deliver, history, db, event, version):
    assert await deliver(event(version=version) | {"subject": None}) == SUCCESS
    assert await history() == [("email", "order-confirmed", "sending")]
    [row] = await db.read(lambda conn: conn.execute(sa.select(tables.notifications)).all())
    assert row.version == int(version or 0)


async def test_ready_is_told_by_mail_and_push(deliver, sender, history, event):
    await deliver(event("order.status-changed.v1", status="ready", version=4))
    assert await history() == [("email", "order-ready", "sending"), ("push", "order-status", "sending")]
    assert sender.taken[1].context["status"] == "prepared"


async def test_an_older_event_after_a_newer_one_is_kept_and_not_sent(deliver, sender, rows, history, event):
    await deliver(event("order.cancelled.v1", status="cancelled", version=3))
    assert await deliver(event(version=2)) == SUCCESS
    assert await history() == [("email", "order-cancelled", "sending"), ("email", "order-confirmed", "suppressed")]
    assert (await rows())[1].error == "superseded"
    assert [one.template for one in sender.taken] == ["order-cancelled"]


async def test_an_older_event_is_no_older_for_another_order_or_tenant(deliver, sender, event):
    await deliver(event("order.cancelled.v1", version=3))
    await deliver(event(version=2, orderId="o-2"))
    await deliver(event(version=2, tenantid="other"))
    assert len(sender.taken) == 3


async def test_news_of_nothing_in_particular_is_never_overtaken(deliver, sender):
    await deliver(registered(version=2), "identity")
    await deliver(registered(version=1, customerId="c-2") | {"id": "e-2"}, "identity")
    assert [one.recipient_id for one in sender.taken] == ["c-1", "c-2"]


async def test_a_tenant_sees_only_its_own(deliver, history, event):
    await deliver(event(tenantid="other"))
    assert await history() == []
    assert len(await history("other")) == 1


async def test_a_notification_is_its_orders_owners(deliver, sender, event):
    await deliver(event(ownerId="u-7"))
    await deliver(event(orderId="o-2"))
    assert [one.owner for one in sender.taken] == ["u-7", "c-1"]  # without one it is the recipient's


async def test_two_tenants_may_have_events_of_one_id(deliver, history, event):
    for tenant in ("default", "other"):
        assert await deliver(event(id="e-1", tenantid=tenant)) == SUCCESS
    assert len(await history()) == len(await history("other")) == 1


async def test_a_status_that_nobody_is_told_still_counts_as_newer(deliver, history, event):
    assert await deliver(event("order.status-changed.v1", status="polished", version=9)) == SUCCESS
    await deliver(event(version=2))
    assert await history() == [("email", "order-confirmed", "suppressed")]


async def test_a_type_nobody_is_told_of_makes_its_customer_known(deliver, history, db, event):
    assert await deliver(event("order.status-changed.v1", status="polished")) == SUCCESS
    assert await history() == []
    assert (await db.read(lambda conn: Contacts(conn, "default").get("c-1"))).email == "ada@example.com"


async def test_a_type_that_no_route_knows_is_acknowledged(deliver, db, event):
    for kind in ("order.created.v1", "order.polished.v1"):  # whose outcome is told is known by that
        assert await deliver(event(kind)) == SUCCESS
    assert await deliver(event(), "nobody-s-topic") == SUCCESS
    assert await db.read(lambda conn: conn.execute(sa.select(tables.event_processing)).all()) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"version": -1},
        {"version": "2"},
        {"customer": None},
        {"customer": {"id": "c 1", "email": "ada@example.com"}},
        {"orderId": "o-1\r\nBcc: eve"},
        {"orderId": ""},
        {"ownerId": ""},
        {"ownerId": "u" * 256},
    ],
)
async def test_a_poison_event_is_dropped_and_leaves_nothing(deliver, history, db, event, broken):
    assert (await deliver(event(**broken)))["status"] == "DROP"
    assert await history() == []
    assert await db.read(lambda conn: Contacts(conn, "default").find("c-1")) is None


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("2026-01-01T12:00:00", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01T12:00:00+03:00", datetime(2026, 1, 1, 9, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
    ],
)
async def test_no_event_is_lost_for_a_time_without_a_zone_or_out_of_the_calendar(deliver, db, event, told, read):
    before = now()
    assert await deliver(event() | {"time": told}) == SUCCESS
    as_of = (await db.read(lambda conn: Contacts(conn, "default").get("c-1"))).as_of
    assert as_of == read if read else before <= as_of <= now()


async def test_what_is_no_event_is_dropped(deliver):
    assert (await deliver({"nonsense": True}))["status"] == "DROP"


async def test_a_database_that_is_down_asks_for_the_event_again(taking, sender, event):
    assert await taking(DownDatabase())(event()) == RETRY
    assert sender.taken == []


async def test_the_effect_and_its_record_are_one_transaction(deliver, history, event, monkeypatch):
    poison = event()

    def broken(*_, **__):
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr("notification.queue.enqueue._row", broken)
        assert (await deliver(poison))["status"] == "DROP"
    assert await deliver(poison) == SUCCESS  # not taken for done
    assert len(await history()) == 1


async def test_who_has_no_address_is_told_nothing_and_the_row_says_why(deliver, sender, rows, event):
    await deliver(event(customer={"id": "c-1", "name": "Ada"}))
    ((row,), taken) = (await rows(), sender.taken)
    assert (row.status, row.error, taken) == ("failed", "no address", [])


@pytest.mark.parametrize(
    "email",
    ["ada,bob@example.com", "<ada@example.com>", '"ada"@example.com', "a\u200bda@example.com", "e" * 400 + "@x.test"],
)
async def test_what_can_be_nobodys_address_is_none_and_the_next_channel_tells(deliver, sender, event, email):
    await deliver(registered(customerEmail=email) | {"type": "PasswordChanged"}, "identity")
    await deliver(event(customer={"id": "c-2", "email": email}))
    assert sender.taken == []
    await deliver(
        registered(customerEmail=email, customerPhone="+254711000001", id="e-2") | {"type": "PasswordChanged"},
        "identity",
    )
    assert [(one.channel, one.address) for one in sender.taken] == [("sms", "+254711000001")]


async def test_an_address_is_kept_as_everybody_writes_it(deliver, sender, event):
    await deliver(event(customer={"id": "c-1", "email": " Ada@EXAMPLE.com "}))
    assert [one.address for one in sender.taken] == ["Ada@example.com"]


@pytest.mark.parametrize(
    ("locale", "tag"), [("pt_br-u-fw-mon-hc-h23-ms-metric-mu-celsius", "pt-BR"), ("x" * 200, "en"), ("klingon", "en")]
)
async def test_a_language_is_kept_by_its_tag(deliver, sender, event, locale, tag):
    customer = {"id": "c-1", "email": "ada@example.com", "locale": locale}
    assert await deliver(event(customer=customer)) == {"status": "SUCCESS"}
    assert [message.locale for message in sender.taken] == [tag]


async def test_an_address_the_event_leaves_out_is_known_from_an_earlier_one(deliver, sender, event):
    await deliver(event())
    await deliver(event("order.cancelled.v1", version=3, customer={"id": "c-1"}))
    assert [one.address for one in sender.taken] == ["ada@example.com"] * 2


async def test_what_is_known_of_a_person_is_not_for_an_order_under_that_id(deliver, sender, rows, db, event):
    bea = Contact(id="c-1", owner="c-1", name="Bea", email="bea@example.com", locale="de", as_of=now(), trusted=True)
    await db.write(lambda conn: Contacts(conn, "default").feed(bea))
    await deliver(event(ownerId="u-2", customer={"id": "c-1"}))
    await deliver(event(ownerId="u-2", orderId="o-2", customer={"id": "c-1", "email": "cy@example.com"}))
    assert [(row.status, row.error, row.address) for row in await rows()] == [
        ("failed", "no address", ""),
        ("sending", None, "cy@example.com"),
    ]
    assert len(sender.taken) == 1


# --- what tells events apart, and which is newer ---


def instalment(kind, **data):
    body = {"customerId": "c-1", "customerPhone": "+254711000001", "loanId": "L-1", "version": 1} | data
    return {"specversion": "1.0", "id": "e-1", "source": "/loans", "type": kind, "data": body}


async def test_an_id_is_its_sources_alone(deliver, sender, db):
    for source in ("/loans/ke", "/loans/ug", "/loans/ke"):
        assert await deliver(instalment("PaymentDue") | {"source": source}, "collections") == SUCCESS
    assert [one.template for one in sender.taken] == ["payment-due"] * 2
    taken = await db.read(lambda conn: conn.execute(sa.select(tables.event_processing.c.source)).scalars().all())
    assert sorted(taken) == ["/loans/ke", "/loans/ug"]


async def test_two_events_of_one_version_are_both_told(deliver, sender, history):
    await deliver(instalment("PaymentDue"), "collections")
    await deliver(instalment("PaymentOverdue") | {"id": "e-2"}, "collections")
    assert [one.template for one in sender.taken] == ["payment-due", "payment-overdue"]
    await deliver(instalment("PaymentDue", version=0) | {"id": "e-3"}, "collections")  # says nothing of its age
    assert [status for *_, status in await history()] == ["sending"] * 3


@pytest.mark.parametrize(
    "unset", [{"subject": None}, {"time": None}, {"tenantid": None}, {"traceparent": None}, {"source": None}]
)
async def test_an_attribute_that_is_null_is_unset(deliver, sender, event, unset):
    assert await deliver(event() | unset) == SUCCESS
    assert [one.tenant for one in sender.taken] == ["default"]


# --- what its recipient wants ---


async def test_what_its_recipient_does_not_want_is_suppressed(deliver, sender, rows, wish, event):
    await wish(Preference(channels={ChannelName.EMAIL: ChannelPreference(categories={"OrderUpdates": False})}))
    await deliver(event())
    ((row,), taken) = (await rows(), sender.taken)
    assert (row.status, row.error, row.next_attempt_at, taken) == ("suppressed", "unsubscribed", None, [])


async def test_a_failed_payment_is_told_to_who_wants_no_order_mail(deliver, sender, wish, event):
    await wish(Preference(channels={ChannelName.EMAIL: ChannelPreference(categories={"OrderUpdates": False})}))
    await deliver(event("order.payment-failed.v1"))
    assert [one.template for one in sender.taken] == ["payment-failed"]


# --- the routing table ---


async def test_a_tenants_own_row_takes_the_place_of_the_one_that_ships(deliver, history, db, event):
    shipped = await db.read(lambda conn: dict(_by_key(Routes(conn, "acme").all())))
    sms = Route(channel=ChannelName.SMS, category="OrderUpdates", template="order-confirmed")
    own = shipped["orders", "order.confirmed.v1"].model_copy(update={"messages": (sms,)})
    await db.write(lambda conn: Routes(conn, "acme").put(own, 0))
    await deliver(event(tenantid="acme"))
    await deliver(event())
    assert await history("acme") == [("sms", "order-confirmed", "sending")]
    assert await history() == [("email", "order-confirmed", "sending")]


async def test_routes_that_differ_in_anything_are_messages_of_their_own(deliver, history, db, event):
    shipped = await db.read(lambda conn: dict(_by_key(Routes(conn, "default").all())))
    told = {"channel": "email", "category": "OrderUpdates", "template": "order-confirmed"}
    routes = tuple(Route.model_validate(told | {"set": {"counter": counter}}) for counter in ("1", "2", "2"))
    own = shipped["orders", "order.confirmed.v1"].model_copy(update={"messages": routes})
    await db.write(lambda conn: Routes(conn, "default").put(own, 0))
    await deliver(event())
    assert await history() == [("email", "order-confirmed", "sending")] * 2  # one that stands there twice is one


async def test_an_event_of_a_new_topic_needs_a_row_and_nothing_else(deliver, rows, db):
    route = EventRoute.model_validate(
        {
            "topic": "weather",
            "type": "StormComing",
            "messages": [
                {"channel": "sms", "chain": ["email"], "category": "System", "template": "storm", "group": "at:{place}"}
            ],
        }
    )
    await db.write(lambda conn: Routes(conn, "default").put(route, 0))
    await db.write(_staff("at:sea", s1={"phone": "+254711000002"}, s2={"email": "bob@example.com"}))
    await db.write(_staff("at:hill", s3={"phone": "+254711000003"}))
    storm = {"id": "e-1", "type": "StormComing", "data": {"place": "sea"}}
    assert await deliver(storm, "weather") == SUCCESS
    assert [(row.recipient_id, row.channel, row.address, row.chain) for row in await rows()] == [
        ("s1", "sms", "+254711000002", "email"),
        ("s2", "email", "bob@example.com", ""),
    ]
    assert (await deliver(storm | {"id": "e-2", "data": {}}, "weather"))["status"] == "DROP"


async def test_routes_are_read_by_where_their_event_meets_their_condition(deliver, history, event):
    await deliver(event("order.status-changed.v1", status="delivered", version=5))
    assert await history() == [("push", "order-status", "sending")]


def _by_key(known):
    return (((route.topic, route.type), route) for route, _version in known)


def _staff(group, **people):
    def work(conn):
        for key, told in people.items():
            blank = {"name": "", "email": "", "phone": "", "locale": ""}
            Contacts(conn, "default").put(key, **blank | told, groups=[group], version=0)

    return work


# --- dead letters ---


def letter_of(body, app_id="order-service", topic="notifications"):
    return dead_letter(body if isinstance(body, bytes) else json.dumps(body).encode(), app_id=app_id, topic=topic)


def test_a_dead_letter_keeps_what_it_can_of_garbage():
    garbage = letter_of(b"\xff\x00 no event")
    assert (garbage.app, garbage.topic) == ("order-service", "notifications")
    assert (garbage.tenant, garbage.source, garbage.event_id, garbage.type) == ("default", "", "", "")
    assert "\x00" not in garbage.body
    odd = letter_of({"id": 7, "source": "a\nb", "type": "x" * 200, "tenantid": "t" * 65})
    assert (odd.tenant, odd.source, odd.event_id, odd.type) == ("default", "ab", "", "x" * 128)
    assert letter_of(b"[1]").type == ""


def test_a_dead_letter_is_known_by_who_could_not_process_it_and_by_its_events_source_and_id_however_long():
    event = {"id": "e" * 300, "source": "/s"}
    others = [
        letter_of(event, app_id="payment-service"),
        letter_of(event, topic="orders"),
        letter_of(event | {"id": "e" * 301}),
        letter_of(event | {"source": "/other"}),
        letter_of({"type": "x"}),
        letter_of({"type": "y"}),
    ]
    assert letter_of(event | {"type": "x"}).key == letter_of(event).key
    assert len({letter_of(event).key, *(letter.key for letter in others)}) == 7
    assert letter_of(event).event_id == "e" * 255


@pytest.mark.parametrize("tenant", ["a b", "acme/eu", "t" * 65, "", "default\n", 7, None])
def test_a_dead_letter_of_no_legal_tenant_is_kept_where_an_administrator_can_see_it(tenant):
    assert letter_of({"id": "e-1", "type": "x", "tenantid": tenant}).tenant == "default"


async def test_a_letter_that_dies_again_before_its_replay_is_written_down_waits_again(db):
    died = {"tenantid": "default", "id": "e-1", "type": "x"}
    await db.write(lambda conn: keep_once(conn, letter_of(died)))
    ((first, *others), _) = await db.read(lambda conn: DeadLetters(conn, "default").page(LetterFilter(), Page()))
    replay = await db.write(lambda conn: DeadLetters(conn, "default").begin_replay(first.id, by="a-1"))
    await db.write(lambda conn: keep_once(conn, letter_of(died)))
    await db.write(lambda conn: DeadLetters(conn, "default").end_replay(replay, Outcome.DELIVERED))
    after = await db.read(lambda conn: DeadLetters(conn, "default").get(first.id))
    assert (others, after.id, after.replayed_at, after.times) == ([], first.id, None, 2)
    assert after.received_at > first.received_at


async def test_dead_letters_wait_for_a_database_that_is_down():
    assert await keep(DownDatabase(), b"{}", app_id="order-service", topic="notifications") == RETRY
