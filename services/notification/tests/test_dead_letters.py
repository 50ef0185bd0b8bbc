"""Dead letters as an administrator works on them: looked at, edited, replayed, discarded, and who did it on record."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from chassis.sidecar import Answer
from stack.fake_sidecar import FakeSidecar

LETTERS = "/api/v1/dead-letters"
US, STOCK = "notification-service", "stock-service"
DEAD = f"/events/dead/{US}/orders"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Die = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def die(client: httpx.AsyncClient, event: Callable[..., dict[str, Any]]) -> Die:
    """An event that `app` could not process; gives its letter."""

    async def put(app: str = US, **data: Any) -> dict[str, Any]:
        poison = event(**{"version": -1, **data})
        await client.post(f"/events/dead/{app}/orders", json=poison)
        items = (await client.get(LETTERS)).json()["items"]
        return next(item for item in items if item["eventId"] == poison["id"])

    return put


@pytest.fixture
def app_says(sidecar: FakeSidecar) -> Callable[..., None]:
    def say(status: str, app: str = US, **more: str) -> None:
        sidecar.answers[f"{app}/events/orders"] = Answer(status=200, data={"status": status, **more})

    return say


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errorType"]


async def history(client: httpx.AsyncClient, letter: dict[str, Any]) -> list[dict[str, Any]]:
    return (await client.get(f"{LETTERS}/{letter['id']}/history")).json()["items"]


# --- looking ---


async def test_a_letter_says_what_it_is_why_it_died_and_how_often(client, die, event):
    letter = await die(id="e-1", traceparent=PARENT)
    await client.post(DEAD, json=event(id="e-1", version=-1))
    seen = (await client.get(f"{LETTERS}/{letter['id']}")).json()

    assert (seen["status"], seen["times"], seen["original"]) == ("waiting", 2, None)
    assert seen["event"]["data"]["customer"]["name"] == "Ada"
    assert seen["problems"] == [{"pointer": "/data/version", "detail": "not a count"}]
    assert seen["traceId"] == PARENT[3:35]


async def test_of_another_app_only_what_can_be_known_is_said(client, die):
    letter = await die(STOCK)
    await client.post(f"/events/dead/{STOCK}/orders", content=b"\xff garbage")
    garbage = (await client.get(LETTERS)).json()["items"][0]

    assert (await client.get(f"{LETTERS}/{letter['id']}")).json()["problems"] == []
    seen = (await client.get(f"{LETTERS}/{garbage['id']}")).json()
    assert (seen["event"], seen["traceId"], len(seen["problems"])) == (None, "", 1)


async def test_the_list_is_of_one_status_app_topic_or_type(client, die, app_says):
    app_says("SUCCESS")
    replayed, discarded, waiting = await die(), await die(), await die(STOCK, id="e-9")
    await client.post(f"{LETTERS}/{replayed['id']}/replay")
    await client.post(f"{LETTERS}/{discarded['id']}/discard", json={"reason": "a test"})

    async def ids(**query: str) -> list[str]:
        return [item["id"] for item in (await client.get(LETTERS, params=query)).json()["items"]]

    assert await ids(status="waiting") == await ids(app=STOCK) == [waiting["id"]]
    assert await ids(status="replayed") == [replayed["id"]]
    assert await ids(status="discarded") == [discarded["id"]]
    assert await ids(topic="customers") == await ids(type="other") == []
    assert len(await ids(topic="orders", type="order.confirmed.v1")) == 3


# --- editing ---


async def test_an_edited_letter_is_delivered_as_it_was_edited_under_its_source_and_id(client, die, app_says, sidecar):
    letter = await die()
    event = (await client.get(f"{LETTERS}/{letter['id']}")).json()["event"]
    mended = event["data"] | {"version": 2}
    edited = (await client.put(f"{LETTERS}/{letter['id']}", json={"data": mended, "version": letter["version"]})).json()
    app_says("SUCCESS")
    assert (await client.post(f"{LETTERS}/{letter['id']}/replay")).json()["status"] == "replayed"

    assert (edited["original"], edited["problems"]) == (event, [])
    assert sidecar.invoked == [(f"{US}/events/orders", event | {"data": mended})]
    edit, replay = await history(client, letter)
    assert (edit["by"], edit["action"], edit["before"], edit["after"]) == ("a-1", "edited", event["data"], mended)
    assert (replay["by"], replay["action"], replay["outcome"]) == ("a-1", "replayed", "delivered")


async def test_of_two_who_edit_at_once_the_second_is_told(client, die):
    letter = await die()
    body = {"data": {"version": 2, "orderId": "o-1"} | {"customer": {"id": "c-1"}}, "version": letter["version"]}
    assert (await client.put(f"{LETTERS}/{letter['id']}", json=body)).status_code == 200
    second = await client.put(f"{LETTERS}/{letter['id']}", json=body)

    assert refusal(second) == (409, "concurrency-conflict")
    assert second.json()["currentVersion"] == letter["version"] + 1


@pytest.mark.parametrize("data", [{}, {"version": -2, "orderId": "o-1", "customer": {"id": "c-1"}}])
async def test_data_that_its_app_could_not_read_is_refused_and_changes_nothing(client, die, data):
    letter = await die()
    answer = await client.put(f"{LETTERS}/{letter['id']}", json={"data": data, "version": letter["version"]})

    assert refusal(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["pointer"].startswith("/data/")
    assert (await client.get(f"{LETTERS}/{letter['id']}")).json()["body"] == letter["body"]
    assert await history(client, letter) == []


async def test_what_is_known_of_another_teams_event_or_one_of_our_own_is_held_against_an_edit(client):
    for kind, topic in (("LoanApplicationCreated", "loan-origination"), ("notification.sent.v1", "notifications")):
        poison = {"specversion": "1.0", "id": kind, "source": "/x", "type": kind, "data": {}}
        await client.post(f"/events/dead/{STOCK}/{topic}", json=poison)
        letter = (await client.get(LETTERS)).json()["items"][0]
        answer = await client.put(f"{LETTERS}/{letter['id']}", json={"data": {"version": 1}, "version": 1})
        assert refusal(answer) == (422, "invalid-request"), kind


async def test_what_is_no_event_can_not_be_edited(client):
    await client.post(DEAD, content=b"garbage")
    (letter,) = (await client.get(LETTERS)).json()["items"]
    answer = await client.put(f"{LETTERS}/{letter['id']}", json={"data": {}, "version": 1})

    assert refusal(answer) == (409, "not-replayable")


async def test_an_edit_stands_when_the_event_dies_once_more(client, die, event):
    letter = await die(id="e-1")
    data = {"version": 3, "orderId": "o-1", "customer": {"id": "c-1"}}
    await client.put(f"{LETTERS}/{letter['id']}", json={"data": data, "version": 1})
    await client.post(DEAD, json=event(id="e-1", version=-1))
    after = (await client.get(f"{LETTERS}/{letter['id']}")).json()

    assert (after["event"]["data"], after["times"]) == (data, 2)


# --- discarding ---


async def test_a_discarded_letter_is_delivered_no_more_and_says_who_and_why(client, die, app_says, sidecar):
    letter = await die()
    app_says("SUCCESS")
    for _ in range(2):
        answer = await client.post(f"{LETTERS}/{letter['id']}/discard", json={"reason": "a test run"})
        assert (answer.status_code, answer.json()["status"]) == (200, "discarded")

    assert refusal(await client.post(f"{LETTERS}/{letter['id']}/replay")) == (409, "dead-letter-closed")
    edit = {"data": {"version": 2, "orderId": "o-1", "customer": {"id": "c-1"}}, "version": 2}
    assert refusal(await client.put(f"{LETTERS}/{letter['id']}", json=edit)) == (409, "dead-letter-closed")
    assert sidecar.invoked == []
    (move,) = await history(client, letter)
    assert (move["by"], move["action"], move["reason"]) == ("a-1", "discarded", "a test run")


async def test_what_was_replayed_is_neither_discarded_nor_edited(client, die, app_says):
    letter = await die()
    app_says("SUCCESS")
    replayed = (await client.post(f"{LETTERS}/{letter['id']}/replay")).json()

    discard = await client.post(f"{LETTERS}/{letter['id']}/discard", json={"reason": "too late"})
    assert (refusal(discard), discard.json()["current"]) == ((409, "dead-letter-closed"), "replayed")
    edit = {"data": {"version": 2, "orderId": "o-1", "customer": {"id": "c-1"}}, "version": replayed["version"]}
    assert refusal(await client.put(f"{LETTERS}/{letter['id']}", json=edit)) == (409, "dead-letter-closed")


# --- replaying ---


async def test_the_apps_own_word_to_a_replay_is_kept(client, die, app_says):
    letter = await die(STOCK)
    app_says("DROP", STOCK, reason="items.0.sku: missing")
    answer = await client.post(f"{LETTERS}/{letter['id']}/replay")

    assert refusal(answer) == (409, "not-replayable")
    (after,) = (await client.get(LETTERS)).json()["items"]
    assert after["reason"] == answer.json()["detail"] == f"{STOCK} can't process it: items.0.sku: missing"
    assert [(move["action"], move["outcome"]) for move in await history(client, letter)] == [("replayed", "refused")]


async def test_a_replay_that_nobody_answers_is_on_record_and_the_letter_waits(client, die, app_says):
    letter = await die()
    app_says("RETRY")
    assert refusal(await client.post(f"{LETTERS}/{letter['id']}/replay")) == (503, "app-unavailable")

    assert [move["outcome"] for move in await history(client, letter)] == ["unanswered"]
    assert (await client.get(f"{LETTERS}/{letter['id']}")).json()["status"] == "waiting"


async def test_many_at_once_are_each_replayed_as_alone_the_oldest_first(client, die, app_says, sidecar):
    app_says("SUCCESS")
    app_says("DROP", STOCK)
    first, second, stock = await die(), await die(), await die(STOCK)
    ids = [stock["id"], second["id"], first["id"], first["id"], "nothing"]
    results = (await client.post(f"{LETTERS}/replay", json={"ids": ids})).json()["items"]

    assert [(one["id"], one["done"], one["errorType"]) for one in results] == [
        (first["id"], True, None),
        (second["id"], True, None),
        (stock["id"], False, "not-replayable"),
        ("nothing", False, "dead-letter-not-found"),
    ]
    assert [event["id"] for _, event in sidecar.invoked[:2]] == [first["eventId"], second["eventId"]]


async def test_of_an_app_that_does_not_answer_the_rest_is_not_tried(client, die, app_says, sidecar):
    app_says("RETRY", STOCK)
    app_says("SUCCESS")
    letters = [await die(STOCK), await die(STOCK), await die()]
    results = (await client.post(f"{LETTERS}/replay", json={"ids": [one["id"] for one in letters]})).json()["items"]

    assert [one["errorType"] for one in results] == ["app-unavailable", "app-unavailable", None]
    assert len(sidecar.invoked) == 2


async def test_many_at_once_are_discarded_for_one_reason(client, die):
    letters = [await die(), await die()]
    ids = [one["id"] for one in letters]
    results = (await client.post(f"{LETTERS}/discard", json={"ids": [*ids, "nothing"], "reason": "May"})).json()[
        "items"
    ]

    assert [one["done"] for one in results] == [True, True, False]
    assert [(await history(client, one))[0]["reason"] for one in letters] == ["May", "May"]


@pytest.mark.parametrize("ids", [[], ["x"] * 101])
async def test_none_and_more_than_a_hundred_are_refused(client, ids):
    assert refusal(await client.post(f"{LETTERS}/replay", json={"ids": ids})) == (422, "invalid-request")
