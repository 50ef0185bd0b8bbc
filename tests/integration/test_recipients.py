"""What recipients answer, click and wish, what they get from then on, and the feed in which they watch it."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import pytest
from brewery import NOTIFICATION, Brewery, Notices, bearer, client_of, new_phone, replicas

from chassis.ids import new_id, now
from stack.eventually import eventually
from stack.sidecars import Stack


@pytest.fixture
async def anybody(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Without a token."""
    async with client_of(stack, NOTIFICATION) as client:
        yield client


def preferences(recipient_id: str) -> str:
    return f"/api/v1/recipients/{recipient_id}/preferences"


def address_of(recipient_id: str) -> str:
    return f"{recipient_id}@people.example"


async def identity(brew: Brewery, kind: str, recipient_id: str) -> None:
    told = {"customerId": recipient_id, "customerName": "Grace", "customerEmail": address_of(recipient_id)}
    await brew.publish_to("identity", kind, told | {"changedAt": "2026-11-21T12:00:00Z"})


async def outcomes(notices: Notices, recipient_id: str) -> list[tuple[str, str, str | None]]:
    """What became of each message, oldest first."""
    rows = (await notices.history(recipientId=recipient_id))[::-1]
    return [(row["template"], row["status"], row["error"]) for row in rows]


# --- what they say ---


async def test_stop_by_text_ends_texts_and_start_brings_them_back(brew: Brewery, notices: Notices) -> None:
    phone = new_phone()
    customer = await notices.recipient(phone=phone)

    async def says(word: str, stopped: list[str]) -> None:
        (await brew.sandbox.post("/sandbox/sms/inbound", json={"from": phone, "text": word})).raise_for_status()

        async def heard() -> bool:
            return (await notices.client.get(preferences(customer))).json()["stopped"] == stopped

        assert await eventually(heard)

    await says("Stop.", ["sms"])
    assert (await notices.becomes(await notices.send(customer, "sms"), "suppressed"))["error"] == "stopped"
    by_mail = await notices.becomes(await notices.send(customer, "sms", chain=["email"]), "delivered")
    assert by_mail["channel"] == "email"
    assert await brew.texts(phone) == []
    await says("START", [])
    await notices.becomes(await notices.send(customer, "sms"), "delivered")
    assert len(await brew.texts(phone)) == 1


async def test_one_click_ends_a_category_of_mail_but_not_what_is_critical(
    brew: Brewery, notices: Notices, anybody: httpx.AsyncClient
) -> None:
    customer = f"c-{new_id()}"

    async def letters(count: int) -> list[EmailMessage]:
        await brew.arrived(address_of(customer), count)
        return brew.letters(address_of(customer))

    await identity(brew, "UserRegistered", customer)
    [welcome] = await letters(1)
    assert welcome["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = urlsplit(welcome["List-Unsubscribe"].strip("<>"))
    click = f"{link.path}?{link.query}"
    assert (await anybody.get(click)).status_code == 200  # as mail scanners do: it changes nothing
    assert (await anybody.post(f"{click}x")).status_code == 404
    assert (await notices.client.get(preferences(customer))).json()["version"] == 0
    answer = await anybody.post(click, data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200, answer.text

    await identity(brew, "UserRegistered", customer)
    await identity(brew, "PasswordChanged", customer)
    [_, changed] = await letters(2)
    assert (changed["Subject"], changed["List-Unsubscribe"]) == ("Your password was changed", None)

    async def told() -> bool:
        became = await outcomes(notices, customer)
        assert sorted(became) == [
            ("password-changed", "delivered", None),
            ("welcome", "delivered", None),
            ("welcome", "suppressed", "unsubscribed"),
        ]
        return True

    assert await eventually(told)
    await notices.becomes(await notices.send(customer), "delivered")  # of another category


# --- what they wish ---


@pytest.mark.chaos  # it waits for a minute of the clock
@pytest.mark.timeout(180)
@pytest.mark.only_on("sqlite")
async def test_what_is_held_goes_out_when_its_time_has_come_and_what_is_critical_at_once(
    brew: Brewery, notices: Notices
) -> None:
    sleeper, reader = await notices.recipient(), await notices.recipient()
    # The next minute that leaves time to ask for what it is to bring.
    due = (now() + timedelta(seconds=70)).replace(second=0, microsecond=0)
    quiet = {"start": f"{due - timedelta(hours=2):%H:%M}", "end": f"{due:%H:%M}"}
    await wish(notices, sleeper, quietHours=quiet)
    await wish(notices, reader, digests={"System": f"{due:%H:%M}"})

    held = await notices.send(sleeper)
    gathered = [await notices.send(reader, personalizationContext={"message": word}) for word in ("one", "two")]
    for message, reason in ((held, "quiet-hours"), *((each, "digest") for each in gathered)):
        await eventually(lambda message=message, reason=reason: is_held(notices, message, reason, until=due))
    await identity(brew, "PasswordChanged", sleeper)
    [first] = await brew.arrived(address_of(sleeper))
    assert first["subject"] == "Your password was changed"
    assert (await notices.seen(held))["status"] == "queued"

    await asyncio.sleep(max(0.0, (due - now()).total_seconds()))
    assert (await notices.becomes(held, "delivered"))["sentAt"] >= due.isoformat()
    for one in gathered:
        await notices.becomes(one, "delivered")
    assert [mail["subject"] for mail in await brew.inbox(address_of(sleeper))] == [first["subject"], "A test"]
    [digest] = await brew.inbox(address_of(reader))
    assert digest["subject"] == "2 messages: System"
    assert "this is a test: one" in digest["text"]
    assert "this is a test: two" in digest["text"]


async def is_held(notices: Notices, message: str, reason: str, *, until: datetime) -> bool:
    seen = await notices.seen(message)
    assert (seen["status"], seen["error"], seen["attempts"]) == ("queued", reason, 0)
    return datetime.fromisoformat(seen["nextAttemptAt"]) == until


async def wish(notices: Notices, recipient_id: str, **wishes: Any) -> None:
    answer = await notices.client.put(preferences(recipient_id), json={"version": 0, "timeZone": "UTC"} | wishes)
    assert answer.status_code == 200, answer.text


async def test_of_two_who_change_the_same_wishes_one_is_told_what_the_version_is_now(
    stack: Stack, notices: Notices
) -> None:
    customer = await notices.recipient()
    path = preferences(customer)
    async with client_of(stack, NOTIFICATION, bearer(stack, "user", sub=customer)) as own:
        bodies = [{"timeZone": zone, "version": 0} for zone in ("Africa/Nairobi", "America/Sao_Paulo")]
        answers = await asyncio.gather(*(own.put(path, json=body) for body in bodies))
        [kept, refused] = sorted(answers, key=lambda answer: answer.status_code)
        assert (kept.status_code, kept.json()["version"]) == (200, 1)
        problem = refused.json()
        assert (refused.status_code, problem["errorType"]) == (409, "concurrency-conflict")
        again = await own.put(path, json={"timeZone": "Asia/Tokyo", "version": problem["currentVersion"]})
        assert (again.status_code, again.json()["version"]) == (200, 2)
        assert (await own.get(path)).json()["timeZone"] == "Asia/Tokyo"
    async with client_of(stack, NOTIFICATION, bearer(stack, "user", sub="u-somebody")) as other:
        assert (await other.get(path)).json()["errorType"] == "not-owner"


# --- password resets ---


async def test_a_password_reset_works_once_is_revoked_by_the_next_and_tells_nobody_who_is_known(
    brew: Brewery, notices: Notices, anybody: httpx.AsyncClient
) -> None:
    known = address_of(await notices.recipient())
    nobody = f"{new_id()}@people.example"

    async def ask(email: str) -> tuple[int, bytes, set[str]]:
        answer = await anybody.post("/api/v1/password-resets", json={"email": email})
        return answer.status_code, answer.content, set(answer.headers)

    async def tokens(count: int) -> list[str]:
        mails = await brew.arrived(known, count)
        return [token for mail in mails for token in re.findall(r"/reset-password#token=(\S+)", mail["text"])]

    async def redeem(token: str) -> int:
        return (await anybody.post("/api/v1/password-resets/redeem", json={"token": token})).status_code

    began = now().isoformat()
    assert await ask(nobody) == await ask(known)
    [first] = await tokens(1)
    assert (await ask(known))[0] == 202
    [_, second] = await tokens(2)
    assert await redeem(first) == 410
    assert [await redeem(second) for _ in range(3)] == [204, 410, 410]
    assert await redeem("guessed") == 410

    async def ended() -> bool:
        rows = await notices.history(**{"from": began})
        became = [(row["status"], row["error"]) for row in rows if row["template"] == "password-reset"]
        return sorted(became) == [("delivered", None), ("delivered", None), ("suppressed", "no account")]

    assert await eventually(ended)
    assert await brew.inbox(nobody) == []


# --- the live feed ---


@asynccontextmanager
async def listening(
    client: httpx.AsyncClient, recipient_id: str, *, after: str = ""
) -> AsyncGenerator[Callable[[], Awaitable[dict[str, Any]]]]:
    """Gives what waits for the next event: its data, and its `id`."""
    headers = {"Last-Event-ID": after} if after else {}
    stream = client.stream("GET", "/api/v1/stream", params={"recipientId": recipient_id}, headers=headers)
    async with stream as answer, aclosing(cast("AsyncGenerator[str]", answer.aiter_lines())) as lines:
        assert answer.status_code == 200

        async def following() -> dict[str, Any]:
            told: dict[str, str] = {}
            async with asyncio.timeout(20):
                async for line in lines:
                    name, _, value = line.partition(": ")
                    told[name] = value
                    if not line and "data" in told:
                        return {**json.loads(told["data"]), "id": told["id"]}
            raise AssertionError("the stream has ended")

        yield following


async def test_a_stream_hears_what_another_replica_sent_and_once_what_it_missed(
    brew: Brewery, notices: Notices
) -> None:
    customer = await notices.recipient()
    near, far = replicas(brew.stack, NOTIFICATION)[0], replicas(brew.stack, NOTIFICATION)[-1]
    own = bearer(brew.stack, "user", sub=customer)
    async with client_of(brew.stack, far, own) as client, listening(client, customer) as following:
        first = await notices.send(customer, "live")
        heard = await following()
        assert (heard["notificationId"], heard["status"], heard["text"]) == (first, "sent", "A test")
    missed = [await notices.send(customer, "live") for _ in range(3)]
    for one in missed:
        await notices.becomes(one, "sent")
    for replica in (near, far):
        async with client_of(brew.stack, replica, own) as client, listening(client, customer, after=heard["id"]) as on:
            told = [(await on())["notificationId"] for _ in missed]
            missed.append(await notices.send(customer, "live"))
            told.append((await on())["notificationId"])
        assert told[-1] == missed[-1]
        assert sorted(told) == missed


async def test_a_stream_tells_a_user_of_nothing_but_their_own(brew: Brewery) -> None:
    """A customer has ordered by themself, and had a buyer order, whom notification knows the customer from."""
    customer, buyer = f"r-{new_id()}", f"u-{new_id()}"
    bought = [confirmed(customer, buyer) for _ in range(2)]
    await brew.publish_to("orders", "order.confirmed.v1", bought[0])
    await brew.arrived(f"{customer}@people.example")
    async with (
        client_of(brew.stack, NOTIFICATION, bearer(brew.stack, "user", sub=buyer)) as client,
        listening(client, customer) as following,
    ):
        await brew.publish_to("orders", "order.confirmed.v1", confirmed(customer, customer))
        await brew.arrived(f"{customer}@people.example", 2)
        await brew.publish_to("orders", "order.confirmed.v1", bought[1])
        while (heard := await following())["subjectId"] == bought[0]["orderId"]:  # how it ended may be told only now
            pass
    assert (heard["subjectId"], heard["template"]) == (bought[1]["orderId"], "order-confirmed")


def confirmed(customer: str, buyer: str) -> dict[str, Any]:
    price = {"amount": "4.50", "currency": "USD"}
    who = {"id": customer, "name": "Grace", "email": f"{customer}@people.example", "locale": "en"}
    item = {"sku": "latte", "name": "Latte", "quantity": 1, "unitPrice": price}
    told = {"orderId": new_id(), "ownerId": buyer, "customer": who, "items": [item], "total": price, "version": 2}
    return told | {"status": "confirmed", "location": "take-away"}
