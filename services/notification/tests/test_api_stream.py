"""The live feed of notifications."""

from contextlib import asynccontextmanager
from urllib.parse import urlencode

import pytest

from stack.event_stream import listening as listening_to

STREAM = "/api/v1/stream"


@asynccontextmanager
async def listening(client, recipient="c-1", **headers):
    """A reader of a recipient's feed, once it is in; gone when left."""
    url = f"{STREAM}?{urlencode({'recipientId': recipient})}"
    async with listening_to(client._transport.app, url, {**client.headers, **headers}) as stream:
        yield stream


async def tell(client, event, owner="u-1", **data):
    body = event(ownerId=owner, **data)
    assert (await client.post("/events/orders", json=body)).json() == {"status": "SUCCESS"}


async def test_what_is_sent_is_told_at_once_and_without_addresses(client, event):
    async with listening(client) as stream:
        assert stream.status == 200
        await tell(client, event)
        ((position, name, data),) = await stream.at_least(1)

    assert (position > 0, name) == (True, "notification.sent")
    (item,) = (await client.get("/api/v1/notifications")).json()["items"]
    assert (data["notificationId"], data["status"], data["subjectId"]) == (item["id"], "sent", "o-1")
    assert (data["channel"], data["text"]) == ("email", item["subject"])
    assert "ownerId" not in data
    assert "ada@example.com" not in str(data)


async def test_after_a_break_what_was_missed_comes_first(client, event):
    async with listening(client) as stream:
        await tell(client, event, orderId="o-1")
        ((last, _, _),) = await stream.at_least(1)
    await tell(client, event, orderId="o-2")

    async with listening(client, **{"last-event-id": str(last)}) as stream:
        await stream.at_least(1)
        await tell(client, event, orderId="o-3")
        events = await stream.at_least(2)

    assert [data["subjectId"] for _, _, data in events] == ["o-2", "o-3"]
    assert last < events[0][0] < events[1][0]


async def test_from_the_very_first_on_everything_is_told_again(client, event):
    for order in ("o-1", "o-2"):
        await tell(client, event, orderId=order)
    async with listening(client, **{"last-event-id": "0"}) as stream:
        events = await stream.at_least(2)
    assert sorted(data["subjectId"] for _, _, data in events) == ["o-1", "o-2"]


async def test_a_user_is_told_the_own_and_staff_everybodys(client, event, issuer):
    async with (
        listening(client, **_as(issuer, "user", sub="c-1")) as own,
        listening(client, **_as(issuer, "staff", sub="s-1")) as all_,
        listening(client, **_as(issuer, "staff", sub="s-1", tenant="other")) as elsewhere,
        listening(client, recipient="c-2") as another,
    ):
        await tell(client, event, "u-1", orderId="o-1")
        await all_.at_least(1)
        await tell(client, event, "c-1", orderId="o-2")
        await all_.at_least(2)
        await own.at_least(1)
        assert [data["subjectId"] for _, _, data in all_.events] == ["o-1", "o-2"]
        assert [data["subjectId"] for _, _, data in own.events] == ["o-2"]
        assert elsewhere.events == another.events == []


async def test_a_replay_too_is_a_users_own(client, event, issuer):
    async with listening(client) as all_:
        await tell(client, event, "u-1", orderId="o-1")
        await all_.at_least(1)
        await tell(client, event, "c-1", orderId="o-2")
        await all_.at_least(2)
    async with listening(client, **_as(issuer, "user", sub="c-1"), **{"last-event-id": "0"}) as own:
        events = await own.at_least(1)
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
