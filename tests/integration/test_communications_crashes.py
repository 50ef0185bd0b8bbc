"""The notification service dies, or stands still, on any line: what it has accepted arrives, and each effect is one.

The outside world's own records are the evidence, and the database. What a dead process had in hand is somebody else's
after 30 s: its rows by their leases, its events by the broker.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from brewery import NOTIFICATION, Brewery, Notices, bearer, client_of, new_phone, replicas

from chassis.ids import new_id, now
from stack.eventually import eventually

BULK, RESET = "/api/v1/notifications/bulk", "/api/v1/password-resets"
REACHED = {"sent", "delivered"}
TAKEN_OVER = 100  # seconds: those 30, once or twice, a retry, and a busy machine
# Africa's Talking refuses a number that ends so; the legacy provider, which knows idempotency keys, takes over.
LEGACY = "0500"

Rows = Sequence[Mapping[str, Any]]


@pytest.fixture
async def other(brew: Brewery) -> AsyncIterator[Notices]:
    """By way of the second replica."""
    async with client_of(brew.stack, second(brew), bearer(brew.stack, "admin")) as client:
        yield Notices(client)


def second(brew: Brewery) -> str:
    names = replicas(brew.stack, NOTIFICATION)
    if len(names) == 1:
        pytest.skip("SQLite has one process")
    return names[1]


@contextmanager
def standing_still(brew: Brewery, *names: str) -> Generator[None]:
    """SIGSTOP: they hold their connections and hear nothing."""
    for name in names:
        brew.stack.freeze_app(name)
    try:
        yield
    finally:
        for name in names:
            brew.stack.thaw_app(name)


def restart(brew: Brewery) -> None:
    brew.kill(NOTIFICATION)
    brew.start(NOTIFICATION)


# --- providers that are slow, and what they and the database say in the end ---


async def slow(brew: Brewery, *targets: str, ms: int) -> None:
    """Once nothing of other tests is on its way, or `asked` would be told of that."""
    await eventually(lambda: not under_way(brew), within=TAKEN_OVER, every=0.1)
    for target in targets:
        await brew.fault(target, mode="ok", delayMs=ms, count=1000)


def under_way(brew: Brewery) -> list[str]:
    """What is being sent, or is due in a moment."""
    query = "SELECT id, next_attempt_at AS due FROM notifications WHERE status = 'sending' OR (status = 'queued'"
    found = brew.rows(NOTIFICATION, f"{query} AND digest_of IS NULL)")
    soon = now() + timedelta(seconds=2)
    return [row["id"] for row in found if row["due"] is None or moment_of(row["due"]) < soon]


def moment_of(value: Any) -> datetime:
    """As either database has it."""
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


async def asked(brew: Brewery, *targets: str) -> None:
    """Until each of them, which is slow, has a message in its hands."""

    async def all_asked() -> bool:
        faults = (await brew.sandbox.get("/sandbox/faults")).json()
        return all(faults[target]["count"] < 1000 for target in targets)

    await eventually(all_asked, within=TAKEN_OVER, every=0.02)


def address_of(recipient_id: str) -> str:
    return f"{recipient_id}@people.example"


async def copies(brew: Brewery, recipient_id: str) -> list[str]:
    """The Message-ID of every mail, oldest first."""
    return [mail["messageId"] for mail in await brew.inbox(address_of(recipient_id))]


def rows(brew: Brewery, recipient_id: str) -> Rows:
    query = "SELECT * FROM notifications WHERE recipient_id = ? ORDER BY id"
    return brew.rows(NOTIFICATION, query, recipient_id)


async def all_reach(brew: Brewery, recipient_id: str, count: int) -> Rows:
    """Exactly so many rows, each taken by a provider."""

    def there() -> Rows:
        found = rows(brew, recipient_id)
        assert [row["status"] for row in found if row["status"] not in REACHED] == []
        assert len(found) == count
        return found

    return await eventually(there, within=TAKEN_OVER, every=0.25)


def token_in(mail: Mapping[str, Any]) -> str:
    found = re.search(r"#token=(\S+)", mail["text"])
    assert found, "no link"
    return found[1]


async def redeem(notices: Notices, mail: Mapping[str, Any]) -> int:
    return (await notices.client.post(f"{RESET}/redeem", json={"token": token_in(mail)})).status_code


# --- the send command, and password resets ---


@pytest.mark.only_on("sqlite")
async def test_what_was_accepted_arrives_though_the_service_dies_the_moment_after(
    brew: Brewery, notices: Notices
) -> None:
    phone = new_phone()
    people = await asyncio.gather(*(notices.recipient() for _ in range(10)))
    *readers, forgetful, texted = [*people, await notices.recipient(phone=phone)]
    await slow(brew, "smtp", "sms", ms=400)
    promises = (notices.send(reader) for reader in readers)
    *mailed, text = await asyncio.gather(*promises, notices.send(texted, "sms"))
    asked_for = await notices.client.post(RESET, json={"email": address_of(forgetful)})
    assert asked_for.status_code == 202
    brew.kill(NOTIFICATION)
    await brew.fair()
    brew.start(NOTIFICATION)

    for reader, promised in zip(readers, mailed, strict=True):
        assert [row["id"] for row in await all_reach(brew, reader, 1)] == [promised]
        assert set(await copies(brew, reader)) == {f"<{promised}@brewline>"}
    assert [row["id"] for row in await all_reach(brew, texted, 1)] == [text]
    assert await brew.texts(phone) != []
    resets: list[dict[str, Any]] = await eventually(
        lambda: brew.inbox(address_of(forgetful)), within=TAKEN_OVER, every=0.25
    )
    assert await redeem(notices, resets[-1]) == 204


async def by_every_channel(brew: Brewery, notices: Notices, phone: str) -> tuple[str, str]:
    """An e-mail, a text and a push, each in the hands of its provider, which hasn't answered yet. Their recipient, and
    the order that the push is about."""
    person = await notices.recipient(phone=phone)
    pushed = event_of_order("order.status-changed.v1", person, status="delivered")
    await slow(brew, "smtp", "sms-legacy", "push", ms=2500)
    await brew.publish(pushed)
    await asked(brew, "push")  # first: an event may take its time
    await asyncio.gather(notices.send(person), notices.send(person, "sms"))
    await asked(brew, "smtp", "sms-legacy")
    return person, pushed["subject"]


def event_of_order(kind: str, recipient_id: str, **data: Any) -> dict[str, Any]:
    order_id, money = new_id(), {"amount": "4.00", "currency": "USD"}
    item = {"sku": "latte", "name": "Latte", "variation": "plain", "quantity": 1, "unitPrice": money}
    customer = {"id": recipient_id, "name": "Grace", "email": address_of(recipient_id)}
    told = {"version": 2, "orderId": order_id, "customer": customer, "items": [item], "total": money}
    event = {"specversion": "1.0", "id": new_id(), "source": "order-service", "type": kind, "tenantid": "default"}
    return event | {"subject": order_id, "data": told | {"location": "take-away"} | data}


async def taken(brew: Brewery, person: str, phone: str, order_id: str) -> None:
    """Until each provider has it on record; we don't know it yet."""

    async def by_all() -> bool:
        return bool(await copies(brew, person) and await brew.texts(phone) and await brew.pushes(order_id))

    await eventually(by_all, within=30)
    assert [row["status"] for row in rows(brew, person)] == ["sending"] * 3


async def each_was_one(brew: Brewery, person: str, phone: str, order_id: str) -> None:
    found = await all_reach(brew, person, 3)
    assert {row["channel"] for row in found} == {"email", "sms", "push"}
    assert [text["provider"] for text in await brew.texts(phone)] == ["legacy"]
    assert await brew.pushes(order_id) == ["delivered"]
    assert len(set(await copies(brew, person))) == 1


@pytest.mark.only_on("sqlite")
async def test_killed_between_the_providers_taking_it_and_our_word_of_it_each_is_one(
    brew: Brewery, notices: Notices
) -> None:
    phone = new_phone(LEGACY)
    person, order_id = await by_every_channel(brew, notices, phone)
    with standing_still(brew, *replicas(brew.stack, NOTIFICATION)):  # none hears its provider's answer
        await taken(brew, person, phone, order_id)
        await brew.fair()
        restart(brew)
    await each_was_one(brew, person, phone, order_id)


async def test_a_replica_that_stands_still_is_taken_over_and_does_no_harm_when_it_wakes(
    brew: Brewery, other: Notices
) -> None:
    phone, living, still = new_phone(LEGACY), NOTIFICATION, second(brew)
    brew.stack.kill_app(living)  # everything comes to the other
    person, order_id = await by_every_channel(brew, other, phone)
    with standing_still(brew, still):
        await taken(brew, person, phone, order_id)
        await brew.fair()
        brew.stack.start_app(living)
        await all_reach(brew, person, 3)
        before = ends(brew, person)
    tries = "SELECT a.id FROM attempts a JOIN notifications n ON n.id = a.notification_id WHERE n.recipient_id = ?"
    await eventually(lambda: len(brew.rows(NOTIFICATION, tries, person)) == 6, within=60)  # it tells how its own ended
    assert ends(brew, person) == before
    await each_was_one(brew, person, phone, order_id)


def ends(brew: Brewery, person: str) -> list[tuple[Any, ...]]:
    """What is written down of a row's end, but for its receipts."""
    names = ("id", "provider", "provider_message_id", "sent_at", "attempts", "error")
    return [tuple(row[name] for name in names) for row in rows(brew, person)]


@pytest.mark.only_on("sqlite")
async def test_a_reset_that_is_sent_again_revokes_the_link_that_had_gone_out(brew: Brewery, notices: Notices) -> None:
    person = await notices.recipient()
    await slow(brew, "smtp", ms=1500)
    assert (await notices.client.post(RESET, json={"email": address_of(person)})).status_code == 202
    await asked(brew, "smtp")
    with standing_still(brew, *replicas(brew.stack, NOTIFICATION)):
        await eventually(lambda: copies(brew, person), within=30)
        await brew.fair()
        restart(brew)
    first = (await brew.inbox(address_of(person)))[0]

    async def again() -> dict[str, Any] | None:
        found = await brew.inbox(address_of(person))
        return found[-1] if len(found) > 1 else None

    later = await eventually(again, within=TAKEN_OVER, every=0.25)
    assert later["messageId"] == first["messageId"]
    assert [await redeem(notices, mail) for mail in (first, later, later)] == [410, 204, 410]


# --- bulk ---


# In three parts, each begun when the one before has nearly gone out; and in twelve.
of_this_size = pytest.mark.parametrize(
    "count", [250, pytest.param(1200, marks=[pytest.mark.chaos, pytest.mark.timeout(400)])]
)


async def bulk(notices: Notices, count: int) -> tuple[str, list[str]]:
    """Its id, once it is promised, and its recipients'."""
    lanes = asyncio.Semaphore(8)

    async def one() -> str:
        async with lanes:
            return await notices.recipient()

    people = await asyncio.gather(*(one() for _ in range(count)))
    words = {"channel": "email", "templateCategory": "System", "templateName": "test"}
    answer = await notices.client.post(BULK, json=words | {"recipients": [{"recipientId": one} for one in people]})
    assert answer.status_code == 202, answer.text
    return answer.json()["bulkId"], people


def begun(brew: Brewery, bulk_id: str) -> int:
    """Recipients that have their row."""
    return brew.rows(NOTIFICATION, "SELECT taken FROM bulks WHERE id = ?", bulk_id)[0]["taken"]


def gone_out(brew: Brewery, bulk_id: str) -> int:
    query = "SELECT count(*) AS n FROM notifications WHERE group_id = ? AND status IN ('sent', 'delivered')"
    return brew.rows(NOTIFICATION, query, bulk_id)[0]["n"]


async def everybody_once(brew: Brewery, notices: Notices, bulk_id: str, people: Sequence[str]) -> None:
    async def over() -> dict[str, Any]:
        answer = await notices.client.get(f"{BULK}/{bulk_id}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["completedAt"], answer.text
        return answer.json()

    view = await eventually(over, within=200, every=0.5)
    assert view["taken"] == view["total"] == sum(view["counts"].values()) == len(people)
    assert view["counts"]["sent"] + view["counts"]["delivered"] == len(people)

    found = brew.rows(NOTIFICATION, "SELECT id, recipient_id FROM notifications WHERE group_id = ?", bulk_id)
    assert Counter(row["recipient_id"] for row in found) == Counter(people)
    results = brew.rows(NOTIFICATION, "SELECT * FROM bulk_recipients WHERE bulk_id = ?", bulk_id)
    made = {row["recipient_id"]: row["id"] for row in found}
    assert {row["recipient_id"]: row["notification_id"] for row in results} == made
    expected = {address_of(person): f"<{notification_id}@brewline>" for person, notification_id in made.items()}
    inbox = await brew.listed("inbox")
    assert {(mail["to"], mail["messageId"]) for mail in inbox if mail["to"] in expected} == set(expected.items())


@pytest.mark.only_on("sqlite")
@of_this_size
async def test_a_bulk_killed_twice_reaches_everybody_once(brew: Brewery, notices: Notices, count: int) -> None:
    bulk_id, people = await bulk(notices, count)
    await eventually(lambda: begun(brew, bulk_id) > 0, every=0.005)
    brew.kill(NOTIFICATION)
    assert begun(brew, bulk_id) < len(people)
    gone = gone_out(brew, bulk_id)
    brew.start(NOTIFICATION)
    await eventually(lambda: gone_out(brew, bulk_id) > gone, within=TAKEN_OVER, every=0.005)
    brew.kill(NOTIFICATION)
    assert gone_out(brew, bulk_id) < len(people)
    brew.start(NOTIFICATION)
    await everybody_once(brew, notices, bulk_id, people)


@of_this_size
async def test_of_two_replicas_one_dies_in_a_bulk_and_the_other_goes_on(
    brew: Brewery, other: Notices, count: int
) -> None:
    bulk_id, people = await bulk(other, count)
    await eventually(lambda: gone_out(brew, bulk_id) > 50, within=60)
    brew.stack.kill_app(NOTIFICATION)
    assert gone_out(brew, bulk_id) < len(people)
    await everybody_once(brew, other, bulk_id, people)


# --- the saga ---


async def apply_for_loan(brew: Brewery, *, phone: str, branch: str) -> str:
    """The customer's id, and the saga's."""
    run = new_id()
    loan = {"applicationId": f"A-{run}", "requestedAmount": "1500.00", "productType": "Payroll", "branchId": branch}
    customer = {"customerId": run, "customerName": "Grace", "customerPhone": phone, "customerEmail": address_of(run)}
    told = {"eventId": run, "eventTimestamp": "2026-11-21T12:00:00Z"} | loan | customer
    await brew.publish_to("loan-origination", "LoanApplicationCreated", told)
    return run


async def both_told_once(brew: Brewery, notices: Notices, customer: str, clerk: str, phone: str) -> None:
    async def completed() -> dict[str, Any]:
        answer = await notices.client.get(f"/api/v1/sagas/{customer}")
        assert (answer.status_code, answer.json().get("currentStep")) == (200, "Completed")
        return answer.json()

    saga = await eventually(completed, within=150, every=0.5)
    steps = [(step["step"], step["sent"]) for step in saga["steps"]]
    assert steps == [("CustomerNotification", True), ("StaffNotification", True)]
    await all_reach(brew, customer, 1)
    await all_reach(brew, clerk, 1)
    assert len(await brew.texts(phone)) == 1
    assert len(await copies(brew, clerk)) == 1


@pytest.mark.only_on("postgresql")
async def test_a_saga_killed_in_its_first_step_tells_the_customer_once_and_then_the_staff(
    brew: Brewery, notices: Notices
) -> None:
    phone, branch = new_phone(LEGACY), f"B-{new_id()[-8:]}"
    clerk = await notices.recipient(groups=[f"branch:{branch}"])
    await slow(brew, "sms-legacy", ms=2000)
    customer = await apply_for_loan(brew, phone=phone, branch=branch)
    await asked(brew, "sms-legacy")
    with standing_still(brew, *replicas(brew.stack, NOTIFICATION)):
        await eventually(lambda: brew.texts(phone), within=30)
        await brew.fair()
        restart(brew)
    await both_told_once(brew, notices, customer, clerk, phone)


@pytest.mark.only_on("sqlite")
async def test_a_saga_killed_between_its_steps_goes_on_with_the_second(brew: Brewery, notices: Notices) -> None:
    phone, branch = new_phone(), f"B-{new_id()[-8:]}"
    clerk = await notices.recipient(groups=[f"branch:{branch}"])
    await slow(brew, "sms", ms=2300)  # longer than the step waits: a timer of 2 s stands before the next
    customer = await apply_for_loan(brew, phone=phone, branch=branch)

    def sent() -> bool:
        return [row["status"] for row in rows(brew, customer) if row["status"] in REACHED] != []

    await eventually(sent, within=TAKEN_OVER, every=0.02)
    brew.kill(NOTIFICATION)
    assert rows(brew, clerk) == []
    await brew.fair()
    brew.start(NOTIFICATION)
    await both_told_once(brew, notices, customer, clerk, phone)


# --- the sidecar ---


async def test_a_sidecar_killed_in_a_burst_of_events_loses_none_and_repeats_none(brew: Brewery) -> None:
    person = f"r-{new_id()}"
    confirmed = [event_of_order("order.confirmed.v1", person, status="confirmed") for _ in range(40)]
    delivered = [event_of_order("order.status-changed.v1", person, status="delivered") for _ in range(40)]
    burst = [event for pair in zip(confirmed, delivered, strict=True) for event in pair]
    publishing = asyncio.create_task(brew.publish(*burst))
    await eventually(lambda: len(rows(brew, person)) > 10, within=TAKEN_OVER, every=0.02)
    for name in replicas(brew.stack, NOTIFICATION):
        brew.stack.kill_sidecar(name)
    await publishing
    assert not brew.processed(event["id"] for event in burst)
    for name in replicas(brew.stack, NOTIFICATION):
        await asyncio.to_thread(brew.stack.start_sidecar, name)

    await eventually(lambda: brew.processed(event["id"] for event in burst), within=TAKEN_OVER, every=0.25)
    found = await all_reach(brew, person, len(burst))
    assert Counter(row["event_id"] for row in found) == Counter(event["id"] for event in burst)
    assert len(await copies(brew, person)) == len(confirmed)  # our own process lived: not one is sent twice
    pushed = Counter(push["orderId"] for push in await brew.listed("push", to=address_of(person)))
    assert pushed == Counter(event["subject"] for event in delivered)
