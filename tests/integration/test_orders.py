"""An order from the request to the e-mail, and every way it can end."""

import asyncio
from decimal import Decimal

import pytest
from brewery import ORDER, PAYMENT, PUBLIC, Brewery, bearer, client_of, order_body

from chassis.ids import new_id
from stack.eventually import eventually


async def test_a_placed_order_is_charged_once_confirmed_and_the_customer_is_told(brew: Brewery) -> None:
    answer = await brew.place(quantity=2)
    order = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{PUBLIC}/{order['id']}"
    assert order["status"] == "confirmed"
    assert order["total"] == {"amount": "8.00", "currency": "USD"}
    assert order["payment"]["status"] == "succeeded"
    assert await brew.ledger(order["id"]) == ["charge"]
    assert len(await brew.mailed(order["id"])) == 1
    assert order | {"notified": None} == await brew.order(order["id"]) | {"notified": None}
    timeline = await brew.timeline(order["id"])
    timeline.pop("notify", None)
    assert [(step, entry["status"]) for step, entry in timeline.items()] == [
        ("place", "completed"),
        ("charge", "completed"),
        ("confirm", "completed"),
    ]


async def test_a_declined_card_is_told_and_nothing_is_charged_or_kept(brew: Brewery) -> None:
    await brew.place(sku="counted")
    before = brew.stock("counted")
    answer = await brew.place(sku="counted", token="tok_declined")
    problem = answer.json()
    assert answer.status_code == 402
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["errorType"], problem["failedStep"]) == ("payment-declined", "charge")
    assert brew.stock("counted") == before
    assert await brew.ledger(problem["orderId"]) == []
    assert "payment" in (await brew.mailed(problem["orderId"]))[0].lower()
    timeline = await brew.timeline(problem["orderId"])
    assert timeline["confirm"]["status"] == "skipped"
    assert timeline["give_back"]["phase"] == "compensation"


async def test_a_provider_that_is_down_means_later_not_never(brew: Brewery) -> None:
    await brew.fault("payment-a", mode="error", status=503)
    answer = await brew.place()
    assert answer.status_code == 202
    order_id = answer.json()["id"]
    assert (await brew.order(order_id))["status"] == "pending_payment"
    await brew.fair()
    await brew.becomes(order_id, status="confirmed", within=60)
    assert await brew.ledger(order_id) == ["charge"]
    assert len(await brew.mailed(order_id)) == 1


async def test_a_lost_reply_is_one_charge(brew: Brewery) -> None:
    answer = await brew.place(token="tok_lost_reply")
    assert answer.status_code in {201, 202}
    order_id = answer.json()["id"]
    await brew.becomes(order_id, status="confirmed", within=60)
    assert await brew.ledger(order_id) == ["charge"]


async def test_a_provider_that_fails_twice_is_asked_again_by_the_sidecar(brew: Brewery) -> None:
    answer = await brew.place(token="tok_flaky")
    assert answer.status_code in {201, 202}  # 202 where an earlier test's failures have the provider's breaker open
    await brew.becomes(answer.json()["id"], status="confirmed", within=60)
    assert await brew.ledger(answer.json()["id"]) == ["charge"]


async def test_two_orders_for_the_last_item_are_one_order(brew: Brewery) -> None:
    answers = await asyncio.gather(brew.place(sku="last-one"), brew.place(sku="last-one"))
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    refused = next(answer.json() for answer in answers if answer.status_code == 409)
    assert refused["errorType"] == "out-of-stock"
    assert brew.stock("last-one") == 0


async def test_staff_moves_an_order_and_the_customer_hears_of_it(brew: Brewery) -> None:
    order_id = (await brew.place()).json()["id"]
    for status, push in (("preparation", "preparation"), ("ready", "prepared"), ("delivered", "delivered")):
        moved = await brew.api.post(f"{PUBLIC}/{order_id}/status", json={"status": status})
        assert (moved.status_code, moved.json()["status"]) == (200, status)
        await eventually(lambda push=push: pushed(brew, order_id, push))  # else the next one could overtake it
    back = await brew.api.post(f"{PUBLIC}/{order_id}/status", json={"status": "ready"})
    assert (back.status_code, back.json()["errorType"]) == (409, "illegal-move")

    async def mailed() -> bool:
        return len(await brew.mails(order_id)) == 2  # confirmed, ready

    await eventually(mailed)


async def pushed(brew: Brewery, order_id: str, push: str) -> bool:
    return push in await brew.pushes(order_id)


async def test_a_delivery_is_shipped_with_its_tracking_number(brew: Brewery) -> None:
    body = order_body() | {"location": "delivery"}
    order_id = (await brew.api.post(PUBLIC, json=body)).json()["id"]
    for status in ("preparation", "ready"):
        await brew.api.post(f"{PUBLIC}/{order_id}/status", json={"status": status})
    shipped = await brew.api.post(f"{PUBLIC}/{order_id}/ship", json={"trackingNumber": "1Z999AA1"})
    assert (shipped.status_code, shipped.json()["trackingNumber"]) == (200, "1Z999AA1")

    async def told() -> bool:
        return any("1Z999AA1" in mail["text"] for mail in await brew.newest_mails())

    await eventually(told)


async def test_a_cancelled_order_is_refunded_and_its_stock_returns(brew: Brewery) -> None:
    order_id = (await brew.place(sku="counted", quantity=3)).json()["id"]
    before = brew.stock("counted")
    cancelled = await brew.api.post(f"{PUBLIC}/{order_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["payment"]["status"]) == (200, "refunded")
    again = await brew.api.post(f"{PUBLIC}/{order_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert await brew.ledger(order_id) == ["charge", "refund"]
    assert brew.stock("counted") == (before or 0) + 3
    await eventually(lambda: _has(brew, order_id, "cancelled"))


@pytest.mark.parametrize(("part", "rest"), [("3.50", ["4.50"]), ("8.00", [])])
async def test_what_an_admin_gave_back_before_a_cancellation_is_not_given_twice_nor_owed(
    brew: Brewery, part: str, rest: list[str]
) -> None:
    order = (await brew.place(quantity=2)).json()
    async with client_of(brew.stack, PAYMENT, bearer(brew.stack, "admin")) as admin:
        path, key = f"/api/v1/payments/{order['payment']['id']}/refunds", {"Idempotency-Key": new_id()}
        given = await admin.post(path, json={"amount": part}, headers=key)
        assert (given.status_code, given.json()["status"]) == (201, "succeeded")
    cancelled = await brew.api.post(f"{PUBLIC}/{order['id']}/cancel")
    assert cancelled.status_code in {200, 202}
    await brew.becomes(order["id"], status="cancelled", payment="refunded")
    ledger = await brew.listed("ledger", orderId=order["id"])
    amounts = {kind: [one["amount"] for one in ledger if one["kind"] == kind] for kind in ("charge", "refund")}
    assert amounts == {"charge": ["8.00"], "refund": [part, *rest]}
    assert sum(map(Decimal, amounts["refund"])) == Decimal("8.00")
    assert brew.payment_status(order["id"]) == "refunded"


async def test_once_preparation_has_begun_nothing_is_cancelled(brew: Brewery) -> None:
    order_id = (await brew.place()).json()["id"]
    await brew.api.post(f"{PUBLIC}/{order_id}/status", json={"status": "preparation"})
    refused = await brew.api.post(f"{PUBLIC}/{order_id}/cancel")
    assert (refused.status_code, refused.json()["errorType"]) == (409, "illegal-move")


async def test_bad_input_is_refused_by_name_and_leaves_no_trace(brew: Brewery) -> None:
    orders, payments = brew.count(ORDER, "orders"), brew.count("payment-service", "payments")
    for change, pointer in (
        ({"items": [{"sku": "gold", "quantity": 1}]}, "/items/0/sku"),
        ({"items": [{"sku": "latte", "quantity": 0}]}, "/items/0/quantity"),
        ({"items": [{"sku": "latte", "quantity": 10_000_000}]}, "/items/0/quantity"),
        ({"items": []}, "/items"),
        ({"currency": "EUR"}, "/currency"),
        ({"currency": "coffee"}, "/currency"),
    ):
        answer = await brew.api.post(PUBLIC, json=order_body() | change)
        assert answer.status_code == 422, change
        assert answer.json()["errors"][0]["pointer"] == pointer
    big = order_body() | {"padding": "x" * 2_000_000}
    assert (await brew.api.post(PUBLIC, json=big)).status_code == 413
    broken = await brew.api.post(PUBLIC, content=b'{"items": [', headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["errorType"]) == (400, "malformed-json")
    for query in ("limit=-1", "cursor=nonsense", "status=brewing"):
        answer = await brew.api.get(f"{PUBLIC}?{query}")
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "?" + query.split("=")[0])
    assert (await brew.api.get(f"{PUBLIC}/nope")).status_code == 404
    assert (brew.count(ORDER, "orders"), brew.count("payment-service", "payments")) == (orders, payments)


async def test_an_emoji_in_a_name_is_fine(brew: Brewery) -> None:
    answer = await brew.place(name="Ada ☕")
    assert (answer.status_code, answer.json()["customer"]["name"]) == (201, "Ada ☕")


async def test_pages_go_from_newest_to_oldest_and_meet_every_order_once(brew: Brewery) -> None:
    placed = [(await brew.place(id="pager")).json()["id"] for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await brew.api.get(PUBLIC, params={"customerId": "pager", "limit": 2} | _cursor(cursor))).json()
        seen += [order["id"] for order in page["items"]]
        cursor = page["next"]
    assert seen == placed[::-1]


def _cursor(cursor: str) -> dict[str, str]:
    return {"cursor": cursor} if cursor else {}


async def _has(brew: Brewery, order_id: str, word: str) -> bool:
    return any(word in subject.lower() for subject in await brew.mails(order_id))
