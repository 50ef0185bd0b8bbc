"""Messages that wait for their recipient's time: held when they are written, asked again when that time has come, and
gathered into a digest. The rules themselves are in
test_recipients_sending_rules."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from chassis.cache import Cache
from chassis.ids import new_id, now
from notification.domain import DIGEST, ChannelName, Message, Notification
from notification.outcomes import Delivered, Postponed, Refused, Settled, Suppressed
from notification.queue.claim import claim
from notification.queue.enqueue import enqueue
from notification.queue.history import Filter, Notifications, Page
from notification.queue.new_notification import effect_of
from notification.queue.record_outcome import settle
from notification.recipients.contacts import Contact, Contacts
from notification.recipients.preferences import Cap, ChannelPreference, Preference, Preferences, QuietHours
from notification.recipients.stop_words import stop
from notification.recipients.unsubscribe_link import Unsubscribing
from notification.sending.compose import Wording
from notification.tables import notifications, subjects
from notification.templates.catalog import Catalog
from stack.eventually import eventually

LEASE = timedelta(seconds=30)

DAILY = Preference(digests={"OrderUpdates": "08:00"})
PHONE = "+254711000001"


def draft(key, *, channel=ChannelName.EMAIL, chain=(), template="order-cancelled", **more):
    context = {"orderId": key, "customer": {"name": "Ada"}, "items": [{"name": "Latte", "quantity": 1}]}
    address = PHONE if channel is ChannelName.SMS else "ada@example.com"
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


def claimed(conn):
    """What goes now, by whatever channel."""
    until = now() + LEASE
    return [
        message
        for channel in ChannelName
        for message in claim(conn, channel=channel, lease_until=until, limit=9999).messages
    ]


@pytest.fixture
def write(db):
    """Write messages down, and claim what may go at once."""

    def work(conn, drafts):
        enqueue(conn, drafts, at=now())
        return claimed(conn)

    return lambda *drafts: db.write(lambda conn: work(conn, drafts))


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
        return await db.write(claimed)

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


async def test_two_that_are_written_at_once_do_not_both_pass_a_cap(on_postgres, waiting):
    with on_postgres.begin() as conn:
        once = Preference(caps=(Cap(limit=1, per="day"),))
        Preferences(conn, "default").change("c-1", lambda _held: once)

    def written(conn, key):
        enqueue(conn, [draft(key)], at=now())
        return claimed(conn)

    def other_replica():
        with on_postgres.begin() as conn:
            return written(conn, "b")

    with ThreadPoolExecutor(1) as beside:
        with on_postgres.begin() as conn:
            assert len(written(conn, "a")) == 1
            other = beside.submit(other_replica)
            await eventually(lambda: other.done() or waiting(), within=30)
        assert other.result(timeout=30) == []


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


async def test_a_channel_that_was_stopped_hands_on_to_the_next(db, write, rows):
    ada = Contact(id="c-1", owner="c-1", email="ada@example.com", as_of=now(), trusted=True)
    await db.write(lambda conn: Contacts(conn, "default").feed(ada))
    await db.write(lambda conn: stop(conn, PHONE))
    (one,) = await write(draft("a", channel=ChannelName.SMS, chain=(ChannelName.EMAIL,)))
    assert (one.channel, one.address, one.chain) == ("email", "ada@example.com", ())
    (row,) = await rows()
    assert (row.channel, row.address, row.chain, row.status) == ("email", "ada@example.com", "", "sending")


async def test_what_was_stopped_is_not_reached_through_a_chain_either(db, wish, write, rows):
    ada = Contact(id="c-1", owner="c-1", email="ada@example.com", phone=PHONE, as_of=now(), trusted=True)
    await db.write(lambda conn: Contacts(conn, "default").feed(ada))
    await db.write(lambda conn: stop(conn, PHONE))
    await wish(Preference(channels={ChannelName.EMAIL: ChannelPreference(enabled=False)}))
    assert await write(draft("a", chain=(ChannelName.SMS,))) == []
    (row,) = await rows()
    assert (row.channel, row.status, row.error) == ("sms", "suppressed", "stopped")


async def test_a_number_that_says_stop_while_a_message_waits_does_not_get_it(db, wish, write, due, rows):
    await wish(quiet_now())
    await write(draft("a", channel=ChannelName.SMS))
    await db.write(lambda conn: stop(conn, PHONE))
    assert await due() == []
    (row,) = await rows()
    assert (row.status, row.error) == ("suppressed", "stopped")


# --- the next channel ---


@pytest.fixture
async def ada(db):
    """Reached by e-mail and phone."""
    known = Contact(id="c-1", owner="c-1", email="ada@example.com", phone=PHONE, as_of=now(), trusted=True)
    await db.write(lambda conn: Contacts(conn, "default").feed(known))


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize(("critical", "channel"), [(True, "sms"), (False, "email")])
async def test_what_is_critical_waits_for_nobody_who_may_have_it(write, rows, ended, critical, channel):
    (going,) = await write(draft("a", chain=(ChannelName.SMS,), critical=critical))
    await ended(going, Postponed("timed out", "smtp"))
    (row,) = await rows()
    assert (row.status, row.channel) == ("queued", channel)


@pytest.mark.usefixtures("ada")
async def test_a_late_word_that_it_was_delivered_tells_by_which_channel(db, write, rows, ended):
    (first,) = await write(draft("a", chain=(ChannelName.SMS,)))
    again = sa.update(notifications).values(lease_until=now() + 2 * LEASE)
    await db.write(lambda conn: conn.execute(again))  # another process has taken it over
    (row,) = await rows()
    await ended(replace(first, lease_until=row.lease_until), Refused("smtp 550"))
    assert [one.channel for one in await rows()] == ["sms"]
    await ended(first, Delivered(provider="smtp"))
    (row,) = await rows()
    assert (row.status, row.channel, row.address, row.provider) == ("sent", "email", "ada@example.com", "smtp")


@pytest.mark.usefixtures("ada")
async def test_the_next_channel_is_tried_again_as_soon_as_any_other(db, write, rows, ended):
    (first,) = await write(draft("a", chain=(ChannelName.SMS,)))
    await ended(first, Refused("smtp 550"))
    (going,) = await db.write(claimed)
    await ended(going, Postponed("timed out"))
    (row,) = await rows()
    assert (row.channel, row.attempts) == ("sms", 2)
    assert row.next_attempt_at - now() < timedelta(seconds=3)


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


async def test_a_digest_that_another_process_is_sending_is_not_ended_by_who_had_it_before(
    wish, write, due, rows, ended
):
    await wish(DAILY)
    await write(draft("a"), draft("b"))
    (carrier,) = await due()
    before = replace(carrier, lease_until=carrier.lease_until - LEASE)
    assert await ended(before, Refused("smtp 550 5.1.1", bounced=True)) == []
    assert [row.status for row in await rows()] == ["sending", "queued"]
    await ended(carrier, Delivered())
    assert [row.status for row in await rows()] == ["sent"] * 2


async def test_a_large_digest_tells_the_newest_and_how_many_more_and_ends_them_all(  # noqa: PLR0917
    db, sidecar, wish, write, due, ended
):
    await wish(DAILY)
    await write(*(draft(f"k-{number:04}") for number in range(2500)))
    (carrier,) = await due()
    message = await _worded(db, sidecar, carrier)
    assert message.rendered.subject == "2500 messages: OrderUpdates"
    assert message.rendered.text.count("----") == 199
    assert "… and 2300 more" in message.rendered.text
    assert message.rendered.text.index("k-2300") < message.rendered.text.index("k-2499")
    assert "k-2299" not in message.rendered.text
    await ended(carrier, Delivered())
    statuses = sa.select(notifications.c.status).distinct()
    assert await db.read(lambda conn: list(conn.execute(statuses).scalars())) == ["sent"]


async def test_between_the_messages_of_a_digest_others_have_their_turn(db, sidecar, wish, write, due):
    turns, seen = 0, []

    class Watched(Catalog):
        async def find(self, *args, **named):
            seen.append(turns)
            return await super().find(*args, **named)

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    await wish(DAILY)
    await write(*(draft(key) for key in "abcd"))
    (carrier,) = await due()
    beside = asyncio.create_task(others())
    await _worded(db, sidecar, carrier, Watched)
    beside.cancel()
    assert len(set(seen)) == len(seen) == 5


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


async def test_two_replicas_do_not_split_a_digest(on_postgres, waiting):
    with on_postgres.begin() as conn:
        Preferences(conn, "default").change("c-1", lambda _held: DAILY)
        enqueue(conn, [draft("a"), draft("b")], at=now())
        assert claimed(conn) == []  # they wait for their digest's time
        conn.execute(sa.update(notifications).values(next_attempt_at=now(), created_at=now() - timedelta(days=2)))

    def other_replica():
        with on_postgres.begin() as conn:
            return claimed(conn)

    with ThreadPoolExecutor(1) as beside:
        with on_postgres.begin() as conn:  # this one has found the first of them, and no more yet
            conn.execute(sa.select(notifications).order_by(notifications.c.id).limit(1).with_for_update())
            other = beside.submit(other_replica)
            await eventually(lambda: other.done() or waiting(), within=30)
            assert claimed(conn) == []
        (carrier,) = other.result(timeout=30)
    with on_postgres.connect() as conn:
        carried = sa.select(notifications.c.id).where(notifications.c.digest_of == carrier.id)
        assert len(conn.execute(carried).all()) == 1


async def test_digests_are_of_one_category_each(wish, write, due):
    await wish(Preference(digests={"OrderUpdates": "08:00", "System": "08:00"}))
    await write(draft("a"), draft("b", category="System"), draft("c"))
    assert [one.event_id for one in await due()] == ["a", "b"]


async def test_a_digest_of_text_messages_counts_and_names_them(db, sidecar, wish, write, due):
    await wish(DAILY)
    ready, confirmed = (
        draft(key, channel=ChannelName.SMS, template=template)
        for key, template in (("a", "order-ready"), ("b", "order-confirmed"))
    )
    assert await write(ready, confirmed) == []
    (carrier,) = await due()
    message = await _worded(db, sidecar, carrier)
    assert message.rendered.sms == "2 messages: Ada, your order is ready; Order Confirmation"


async def test_a_digest_of_one_text_message_is_that_message(db, sidecar, wish, write, due):
    await wish(DAILY)
    await write(draft("a", channel=ChannelName.SMS, template="order-confirmed"))
    (carrier,) = await due()
    assert (await _worded(db, sidecar, carrier)).rendered.sms == "Your order is confirmed: $9.00. Thank you!"


async def test_a_push_waits_for_no_digest_its_wire_has_no_room_for_one(wish, write):
    await wish(DAILY)
    assert len(await write(draft("a", channel=ChannelName.PUSH, template="order-status"))) == 1


async def test_a_digest_that_only_a_push_could_carry_on_is_refused_as_a_whole(db, sidecar, wish, write, due):
    await wish(DAILY)
    await write(draft("a"), draft("b"))
    (carrier,) = await due()
    worded = await _wording(db, sidecar).message(replace(carrier, channel=ChannelName.PUSH))
    assert isinstance(worded, Refused)


async def test_what_waits_for_a_digest_and_is_handed_on_to_push_goes_by_itself(db, wish, write, due):
    ada = Contact(id="c-1", owner="c-1", email="ada@example.com", as_of=now(), trusted=True)
    await db.write(lambda conn: Contacts(conn, "default").feed(ada))
    await wish(DAILY)
    await write(*(draft(key, channel=ChannelName.SMS, chain=(ChannelName.PUSH,)) for key in "ab"))
    await db.write(lambda conn: stop(conn, PHONE))
    assert [(one.event_id, one.channel, one.link) for one in await due()] == [("a", "push", ""), ("b", "push", "")]


async def test_a_digest_of_which_nothing_can_be_said_is_not_sent(db, sidecar, wish, write, due):
    await wish(DAILY)
    await write(draft("a", template="unheard-of"))
    (carrier,) = await due()
    assert isinstance(await _wording(db, sidecar).message(carrier), Suppressed)


@pytest.mark.parametrize("channel", [ChannelName.EMAIL, ChannelName.SMS])
async def test_a_digest_is_one_message_to_whoever_wants_few(wish, write, due, rows, channel):
    await wish(DAILY.model_copy(update={"caps": (Cap(limit=1, per="day"),)}))
    await write(*(draft(key, channel=channel) for key in "abc"))
    (carrier,) = await due()
    assert [row.digest_of for row in (await rows())[1:]] == [carrier.id] * 2


async def test_a_digest_that_a_cap_holds_back_waits_as_one(wish, write, due, rows):
    await wish(DAILY.model_copy(update={"caps": (Cap(limit=1, per="day"),)}))
    assert len(await write(draft("0", category="System"), draft("a"), draft("b"))) == 1
    assert await due() == []
    waiting = (await rows())[1:]
    assert [(row.status, row.error, row.digest_of) for row in waiting] == [("queued", "cap", "")] * 2
    assert waiting[0].next_attempt_at == waiting[1].next_attempt_at


async def test_what_a_digest_carried_does_not_count_towards_a_cap(wish, write, due, ended):
    await wish(DAILY.model_copy(update={"caps": (Cap(limit=2, per="day"),)}))
    await write(draft("a"), draft("b"), draft("c"))
    (carrier,) = await due()
    await ended(carrier, Delivered())
    assert len(await write(draft("d", category="System"))) == 1
    assert await write(draft("e", category="System")) == []


def _wording(db, sidecar, catalog=Catalog):
    unsubscribing = Unsubscribing("http://test")
    unsubscribing.unlock("u" * 43)
    cache = Cache(sidecar=sidecar, store="statestore", changes=None, name="notification")
    return Wording(db=db, catalog=catalog(db, cache), unsubscribing=unsubscribing, links={})


async def _worded(db, sidecar, carrier, catalog=Catalog):
    message = await _wording(db, sidecar, catalog).message(carrier)
    assert isinstance(message, Message)
    return message
