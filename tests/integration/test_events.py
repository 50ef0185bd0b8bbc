"""Events arrive late, twice, in any order, or are poison; the broker restarts in the middle."""

from typing import Any

import orjson
from brewery import NOTIFICATION, ORDER, Brewery, bearer, client_of

from chassis.ids import new_id
from stack.eventually import eventually

NEWEST = "ffffffff-ffff-7fff-bfff-ffffffffffff"  # later than any message of ours


def event(order_id: str, kind: str, *, version: int, status: str) -> dict[str, Any]:
    money = {"amount": "4.00", "currency": "USD"}
    item = {"sku": "latte", "name": "Latte", "variation": "plain", "quantity": 1, "unitPrice": money}
    customer = {"id": "c-1", "name": "Ada", "email": "ada@example.com", "locale": "en"}
    data = {"version": version, "orderId": order_id, "status": status, "customer": customer, "items": [item]}
    return {
        "specversion": "1.0",
        "id": new_id(),
        "source": "order-service",
        "type": kind,
        "subject": order_id,
        "tenantid": "default",
        "datacontenttype": "application/json",
        "data": data | {"total": money, "location": "take-away"},
    }


async def test_an_event_delivered_twice_is_one_mail(brew: Brewery) -> None:
    order_id = new_id()
    confirmed = event(order_id, "order.confirmed.v1", version=2, status="confirmed")
    after = event(new_id(), "order.confirmed.v1", version=2, status="confirmed")
    await brew.publish(confirmed, confirmed, after)
    await eventually(lambda: brew.processed([confirmed["id"], after["id"]]))
    assert len(await brew.mailed(after["subject"])) == 1
    assert len(await brew.mailed(order_id)) == 1
    found = brew.rows(NOTIFICATION, "SELECT id FROM notifications WHERE event_id = ?", confirmed["id"])
    assert len(found) == 1


async def test_an_older_event_after_a_newer_one_sends_nothing_and_takes_nothing_back(brew: Brewery) -> None:
    order_id = new_id()
    newer = event(order_id, "order.status-changed.v1", version=4, status="ready")
    older = event(order_id, "order.confirmed.v1", version=2, status="confirmed")
    await brew.publish(newer)
    assert len(await brew.mailed(order_id)) == 1
    await brew.publish(older)
    await eventually(lambda: brew.processed([older["id"]]))
    assert [subject for subject in await brew.mailed(order_id) if "confirmed" in subject] == []
    told = brew.rows(NOTIFICATION, "SELECT status, error FROM notifications WHERE event_id = ?", older["id"])
    assert [(row["status"], row["error"]) for row in told] == [("suppressed", "superseded")]


async def test_a_poison_event_goes_to_the_dead_letters_and_the_rest_flows(brew: Brewery) -> None:
    poison = event(new_id(), "order.confirmed.v1", version=2, status="confirmed")
    poison["data"] = {"version": "much", "customer": None}
    good = event(new_id(), "order.confirmed.v1", version=2, status="confirmed")
    await brew.publish(poison, good)
    assert len(await brew.mailed(good["subject"])) == 1

    async with client_of(brew.stack, NOTIFICATION, bearer(brew.stack, "admin")) as client:

        async def kept() -> dict[str, Any] | None:
            letters = (await client.get("/api/v1/dead-letters")).json()["items"]
            return next((letter for letter in letters if letter["eventId"] == poison["id"]), None)

        letter = await eventually(kept)
        assert (letter["app"], letter["topic"]) == (NOTIFICATION, "orders")
        assert (await client.post(f"/api/v1/dead-letters/{letter['id']}/replay")).status_code == 409


async def test_of_words_on_messages_a_poison_one_goes_to_the_dead_letters_and_the_rest_flows(brew: Brewery) -> None:
    order_id = (await brew.place()).json()["id"]
    await brew.mailed(order_id)

    def word(version: Any) -> dict[str, Any]:
        data = {"notificationId": NEWEST, "subjectId": order_id, "version": version, "status": "failed"}
        head = {"specversion": "1.0", "id": new_id(), "source": NOTIFICATION, "type": "notification.failed.v1"}
        return head | {"tenantid": "default", "time": "2126-11-28T09:00:00Z", "data": data}

    poison, deep, good = word("much"), word(8), word(9)
    deep["data"]["more"] = orjson.Fragment("[" * 1100 + "]" * 1100)  # Dapr takes what is too deep for us
    await brew.publish(poison, deep, good, topic="notifications")

    async def shown() -> bool:
        return (await brew.order(order_id))["notified"] == {"status": "failed", "at": good["time"]}

    await eventually(shown)
    async with client_of(brew.stack, NOTIFICATION, bearer(brew.stack, "admin")) as client:

        async def kept() -> list[Any]:
            letters = (await client.get("/api/v1/dead-letters")).json()["items"]
            found = [(one["app"], one["topic"]) for one in letters if one["eventId"] in {poison["id"], good["id"], ""}]
            return found if len(found) > 1 else []

        assert await eventually(kept) == 2 * [(ORDER, "notifications")]


async def test_a_broker_restarted_in_the_middle_loses_no_event(brew: Brewery) -> None:
    placed = [(await brew.place()).json()["id"] for _ in range(10)]
    brew.stack.stop_redis(kill=True)
    placed += [(await brew.place()).json()["id"] for _ in range(10)]
    brew.stack.start_redis()
    placed += [(await brew.place()).json()["id"] for _ in range(10)]

    async def all_told() -> bool:
        texts = "\n".join(mail["text"] for mail in await brew.newest_mails())
        return all(order_id in texts for order_id in placed)

    await eventually(all_told, within=90, every=0.5)
