"""Messages that wait for their recipient's time: held when they are written, asked again when that time has come, and
gathered into a digest. The rules themselves are in test_policy."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from chassis.cache import Cache
from chassis.ids import new_id, now
from notification.contacts import Contact, Contacts, Preferences
from notification.domain import LEASE, ChannelName, Delivered, Message, Notification, Postponed, Refused
from notification.policy import Cap, ChannelPreference, Preference, QuietHours
from notification.store import Filter, Notifications, Page, effect_of, enqueue
from notification.system import DIGEST, Settled, claim, settle
from notification.tables import notifications, subjects
from notification.templates import Catalog
from notification.unsubscribe import Unsubscribing
from notification.wording import Wording

DAILY = Preference(digests={"OrderUpdates": "08:00"})


def draft(key, *, channel=ChannelName.EMAIL, chain=(), template="order-cancelled", **more):
    context = {"orderId": key, "customer": {"name": "Ada"}, "items": [{"name": "Latte", "quantity": 1}]}
    address = "+254711000001" if channel is ChannelName.SMS else "ada@example.com"
    told: dict[str, Any] = {
        "id": new_id(),
        "tenant": "default",
        "effect": effect_of(key),
        "owner": "c-1",
        "event_id": key,
        "recipient_id": "c-1",
        "channel": channel,
        "chain": chain,
        "address": address,
        "category": "OrderUpdates",
        "template": template,
        "locale": "en",
        "context": context | {"total": {"amount": "9.00", "currency": "USD"}, "status": "preparation"},
        "traceparent": "",
        "created_at": now(),
        "lease_until": now() + LEASE,
    }
    return Notification(**told | more)


def quiet_now():
    """Quiet hours from an hour ago to an hour from now."""
    start, end = (f"{now() + timedelta(hours=hours):%H:%M}" for hours in (-1, 1))
    return Preference(quiet_hours=QuietHours(start=start, end=end))


@pytest.fixture
def wish(db):
    """What the recipient wants from now on."""
    return lambda preference: db.write(
        lambda conn: Preferences(conn, "default").change("c-1", lambda _held: preference)
    )


@pytest.fixture
def write(db):
    return lambda *drafts: db.write(lambda conn: enqueue(conn, drafts, at=now()))


@pytest.fixture
def rows(db):
    """In the order of their making."""

    async def read():
        found, _ = await db.read(lambda conn: Notifications(conn, "default").history(Filter(), Page()))
        return list(reversed(found))

    return read


@pytest.fixture
def due(db):
    """Two days later: claim what is due."""

    async def later():
        at = now()
        past = {"next_attempt_at": at, "created_at": at - timedelta(days=2)}
        waiting = notifications.c.next_attempt_at.is_not(None)
        await db.write(lambda conn: conn.execute(sa.update(notifications).where(waiting).values(past)))
        return await db.write(lambda conn: claim(conn, lease_until=at + LEASE, limit=100))

    return later


@pytest.fixture
def ended(db):
    """An attempt ends; what has moved."""

    async def settled(message, outcome):
        batch = [Settled(notification=message, outcome=outcome, at=now())]
        return await db.write(lambda conn: settle(conn, batch))

    return settled


# --- quiet hours and caps ---


async def test_in_quiet_hours_a_message_waits_and_is_sent_after_them(wish, write, due, rows):
    await wish(quiet_now())
    assert await write(draft("a")) == []
    (held,) = await rows()
    assert (held.status, held.error, held.lease_until) == ("queued", "quiet-hours", None)
    assert timedelta(minutes=58) < held.next_attempt_at - now() <= timedelta(hours=1)
    await wish(Preference())
    assert [one.id for one in await due()] == [held.id]


async def test_what_is_due_while_it_is_quiet_still_waits(wish, write, due, rows):
    await wish(quiet_now())
    await write(draft("a"))
    assert await due() == []
    (held,) = await rows()
    assert (held.status, held.lease_until) == ("queued", None)
    assert held.next_attempt_at > now()


async def test_what_is_critical_does_not_wait(wish, write):
    await wish(quiet_now())
    assert len(await write(draft("a", critical=True))) == 1


async def test_of_messages_over_a_cap_one_goes_each_time_and_none_waits_for_ever(db, wish, write, due, rows):
    await wish(Preference(caps=(Cap(limit=1, per="hour"),)))
    going = await write(draft("a"), draft("b"), draft("c"))
    assert [(row.status, row.error) for row in (await rows())[1:]] == [("queued", "cap")] * 2
    long_ago = {"status": "sent", "sent_at": now() - timedelta(hours=2), "lease_until": None}
    leased = sa.update(notifications).where(notifications.c.status == "sending").values(long_ago)
    for _ in "bc":
        await db.write(lambda conn: conn.execute(leased))
        going += await due()
    assert [one.event_id for one in going] == ["a", "b", "c"]


async def test_what_is_just_being_sent_counts_towards_a_cap(wish, write):
    await wish(Preference(caps=(Cap(limit=1, per="hour"),)))
    assert len(await write(draft("a"))) == 1
    assert await write(draft("b")) == []


# --- what nobody wants ---


async def test_a_wish_that_changed_while_a_message_waited_is_kept(wish, write, due, rows):
    await wish(quiet_now())
    await write(draft("a"))
    await wish(Preference(channels={ChannelName.EMAIL: ChannelPreference(enabled=False)}))
    assert await due() == []
    (row,) = await rows()
    assert (row.status, row.error, row.next_attempt_at) == ("suppressed", "channel-disabled", None)


async def test_a_channel_that_was_stopped_hands_on_to_the_next(db, wish, write, rows):
    ada = Contact(id="c-1", owner="c-1", email="ada@example.com", as_of=now(), trusted=True)
    await db.write(lambda conn: Contacts(conn, "default").feed(ada))
    await wish(Preference(stopped=(ChannelName.SMS,)))
    (one,) = await write(draft("a", channel=ChannelName.SMS, chain=(ChannelName.EMAIL,)))
    assert (one.channel, one.address, one.chain) == ("email", "ada@example.com", ())
    (row,) = await rows()
    assert (row.channel, row.address, row.chain, row.status) == ("email", "ada@example.com", "", "sending")


# --- digests ---


async def test_a_digest_carries_what_was_held_for_it(db, sidecar, wish, write, due, rows):  # noqa: PLR0917
    await wish(DAILY)
    assert await write(draft("a"), draft("b"), draft("c")) == []
    assert [(row.error, row.digest_of) for row in await rows()] == [("digest", "")] * 3
    (carrier,) = await due()
    first, *others = await rows()
    assert (first.id, first.status, first.link) == (carrier.id, "sending", DIGEST)
    assert [(row.status, row.digest_of, row.next_attempt_at) for row in others] == [("queued", carrier.id, None)] * 2
    message = await _worded(db, sidecar, carrier)
    assert message.rendered.subject == "3 messages: OrderUpdates"
    assert "List-Unsubscribe" in message.headers
    assert all(f"Order {key}\n" in message.rendered.text + "\n" for key in "abc")


async def test_a_digests_messages_share_its_end(wish, write, due, rows, ended):
    await wish(DAILY)
    await write(draft("a"), draft("b"))
    (carrier,) = await due()
    moves = await ended(carrier, Delivered(subject="2 messages"))
    assert [(row.status, row.sent_at is not None) for row in await rows()] == [("sent", True)] * 2
    assert [(move.event_id, move.status) for move in moves] == [("a", "sent"), ("b", "sent")]


async def test_a_digest_that_is_refused_takes_its_messages_with_it(wish, write, due, rows, ended):
    await wish(DAILY)
    await write(draft("a"), draft("b"))
    (carrier,) = await due()
    await ended(carrier, Refused("smtp 550 5.1.1", bounced=True))
    assert [row.status for row in await rows()] == ["bounced"] * 2


async def test_a_digest_that_is_tried_again_still_carries_its_messages(wish, write, due, rows, ended):
    await wish(DAILY)
    await write(draft("a"), draft("b"))
    (carrier,) = await due()
    assert await ended(carrier, Postponed("smtp 451")) == []
    (again,) = await due()
    assert (again.id, again.link) == (carrier.id, DIGEST)
    await ended(again, Delivered())
    assert [row.status for row in await rows()] == ["sent"] * 2


async def test_a_digest_that_is_put_off_is_never_carried_by_another(wish, write, due, rows, ended):
    older = draft("0")
    await wish(DAILY)
    await write(draft("a"), draft("b"))
    (carrier,) = await due()
    await ended(carrier, Postponed("smtp 451"))
    await wish(quiet_now().model_copy(update={"digests": DAILY.digests}))
    assert await due() == []
    await write(older)
    await wish(DAILY)
    for one in await due():
        await ended(one, Delivered())
    assert [row.status for row in await rows()] == ["sent"] * 3


async def test_a_digest_is_not_overtaken_with_its_first_message(db, wish, write, due, rows, ended):  # noqa: PLR0917
    of: dict[str, Any] = {"topic": "orders", "subject_id": "o-1", "version": 3, "latest_only": True}
    await wish(DAILY)
    await write(draft("a", **of), draft("b"))
    (carrier,) = await due()
    await ended(carrier, Postponed("smtp 451"))
    newer = {"tenant": "default", "topic": "orders", "subject_id": "o-1", "version": 4}
    await db.write(lambda conn: conn.execute(sa.insert(subjects).values(newer)))
    (again,) = await due()
    await ended(again, Delivered())
    assert [row.status for row in await rows()] == ["sent"] * 2


async def test_a_digest_nobody_wants_any_more_ends_with_its_messages(wish, write, due, rows, ended):
    await wish(DAILY)
    await write(draft("a"), draft("b"))
    (carrier,) = await due()
    await ended(carrier, Postponed("smtp 451"))
    await wish(Preference(channels={ChannelName.EMAIL: ChannelPreference(enabled=False)}))
    assert await due() == []
    assert [(row.status, row.error) for row in await rows()] == [("suppressed", "channel-disabled")] * 2


async def test_digests_are_of_one_category_each(wish, write, due):
    await wish(Preference(digests={"OrderUpdates": "08:00", "System": "08:00"}))
    await write(draft("a"), draft("b", category="System"), draft("c"))
    assert [one.event_id for one in await due()] == ["a", "b"]


async def test_text_messages_wait_for_the_digests_time_and_go_one_by_one(wish, write, due):
    await wish(DAILY)
    await write(draft("a", channel=ChannelName.SMS), draft("b", channel=ChannelName.SMS))
    assert [(one.event_id, one.link) for one in await due()] == [("a", ""), ("b", "")]


async def _worded(db, sidecar, carrier):
    unsubscribing = Unsubscribing("http://test")
    unsubscribing.unlock("u" * 43)
    catalog = Catalog(db, Cache(sidecar=sidecar, store="statestore", changes=None, name="notification"))
    message = await Wording(db=db, catalog=catalog, unsubscribing=unsubscribing, links={}).message(carrier)
    assert isinstance(message, Message)
    return message
