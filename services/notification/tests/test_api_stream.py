"""The live feed, over ASGI itself: httpx's transport gives an answer only once it has ended, and a stream doesn't."""

import asyncio
import json
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import pytest

from stack.eventually import eventually

STREAM = "/api/v1/stream"


class Stream:
    """What came so far: `status`, and `events` as (id, name, data)."""

    def __init__(self):
        self.status = 0
        self.body = b""

    @property
    def events(self):
        blocks = [block for block in self.body.decode().split("\n\n")[:-1] if "data:" in block]
        return [_parsed(block) for block in blocks]

    async def take(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")


def _parsed(block):
    fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
    return int(fields["id"]), fields["event"], json.loads(fields["data"])


@asynccontextmanager
async def listening(client, recipient="c-1", **headers):
    """A reader of the feed, once it is in; gone when left."""
    query, gone, stream = urlencode({"recipientId": recipient}), asyncio.Event(), Stream()
    brought = {"host": "test", **dict(client.headers), **headers}
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": STREAM, "raw_path": STREAM.encode(), "root_path": "",
        "query_string": query.encode(), "server": ("test", 80), "client": ("127.0.0.1", 1),
        "headers": [(name.lower().encode(), value.encode()) for name, value in brought.items()],
    }  # fmt: skip
    begun = False

    async def receive():
        nonlocal begun
        if not begun:
            begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    answering = asyncio.create_task(client._transport.app(scope, receive, stream.take))
    try:
        await eventually(lambda: stream.status, every=0.005)
        yield stream
    finally:
        gone.set()
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


def at_least(stream, number):
    return eventually(lambda: stream.events if len(stream.events) >= number else None, every=0.01)


async def tell(client, event, owner="u-1", **data):
    body = event(ownerId=owner, **data)
    assert (await client.post("/events/orders", json=body)).json() == {"status": "SUCCESS"}


async def test_what_is_sent_is_told_at_once_and_without_addresses(client, event):
    async with listening(client) as stream:
        assert stream.status == 200
        await tell(client, event)
        ((position, name, data),) = await at_least(stream, 1)

    assert (position > 0, name) == (True, "notification.sent")
    (item,) = (await client.get("/api/v1/notifications")).json()["items"]
    assert (data["notificationId"], data["status"], data["subjectId"]) == (item["id"], "sent", "o-1")
    assert (data["channel"], data["text"]) == ("email", item["subject"])
    assert "ownerId" not in data
    assert "ada@example.com" not in str(data)


async def test_after_a_break_what_was_missed_comes_first(client, event):
    async with listening(client) as stream:
        await tell(client, event, orderId="o-1")
        ((last, _, _),) = await at_least(stream, 1)
    await tell(client, event, orderId="o-2")

    async with listening(client, **{"last-event-id": str(last)}) as stream:
        await at_least(stream, 1)
        await tell(client, event, orderId="o-3")
        events = await at_least(stream, 2)

    assert [data["subjectId"] for _, _, data in events] == ["o-2", "o-3"]
    assert last < events[0][0] < events[1][0]


async def test_from_the_very_first_on_everything_is_told_again(client, event):
    for order in ("o-1", "o-2"):
        await tell(client, event, orderId=order)
    async with listening(client, **{"last-event-id": "0"}) as stream:
        events = await at_least(stream, 2)
    assert sorted(data["subjectId"] for _, _, data in events) == ["o-1", "o-2"]


async def test_a_user_is_told_the_own_and_staff_everybodys(client, event, issuer):
    async with (
        listening(client, **_as(issuer, "user", sub="c-1")) as own,
        listening(client, **_as(issuer, "staff", sub="s-1")) as all_,
        listening(client, **_as(issuer, "staff", sub="s-1", tenant="other")) as elsewhere,
        listening(client, recipient="c-2") as another,
    ):
        await tell(client, event, "u-1", orderId="o-1")
        await at_least(all_, 1)
        await tell(client, event, "c-1", orderId="o-2")
        await at_least(all_, 2)
        await at_least(own, 1)
        assert [data["subjectId"] for _, _, data in all_.events] == ["o-1", "o-2"]
        assert [data["subjectId"] for _, _, data in own.events] == ["o-2"]
        assert elsewhere.events == another.events == []


async def test_a_replay_too_is_a_users_own(client, event, issuer):
    async with listening(client) as all_:
        await tell(client, event, "u-1", orderId="o-1")
        await at_least(all_, 1)
        await tell(client, event, "c-1", orderId="o-2")
        await at_least(all_, 2)
    async with listening(client, **_as(issuer, "user", sub="c-1"), **{"last-event-id": "0"}) as own:
        events = await at_least(own, 1)
    assert [data["subjectId"] for _, _, data in events] == ["o-2"]


def _as(issuer, role, **claims):
    return {name.lower(): value for name, value in issuer.bearer(role, **claims).items()}


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 19, "9" * 21, "1 2"])
async def test_an_id_of_no_stream_is_refused(client, last):
    answer = await client.get(STREAM, params={"recipientId": "c-1"}, headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.json()["errorType"]) == (422, "invalid-request")
    assert [error["pointer"].lower() for error in answer.json()["errors"]] == ["last-event-id"]


async def test_a_stream_is_of_a_recipient(client):
    answer = await client.get(STREAM)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "?recipientId")
