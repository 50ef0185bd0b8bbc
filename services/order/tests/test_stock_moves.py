"""Stock moved by hand: each move once, with who and why, and never below nothing."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from stack.issuer import Issuer

PRODUCTS, ORDERS = "/api/v1/catalog/products", "/api/v1/orders"
STOCK = f"{PRODUCTS}/tea/stock"
Body = Callable[..., dict[str, Any]]
Left = Callable[[str], int | None]


@pytest.fixture
def admin(client: httpx.AsyncClient, issuer: Issuer) -> httpx.AsyncClient:
    client.headers = issuer.bearer("admin", sub="a-1")  # type: ignore[assignment]  # httpx takes a dict
    return client


def kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errorType"]


async def test_every_move_is_kept_with_who_and_why_and_what_there_was_after_it(
    admin: httpx.AsyncClient, issuer: Issuer, wanted: Body
):
    came = await admin.post(STOCK, json={"variation": "black", "delta": 5, "reason": "Delivery of Monday"})
    assert came.status_code == 201
    assert (came.json()["balance"], came.json()["actor"], came.json()["variation"]) == (6, "a-1", "black")
    assert (await admin.post(ORDERS, json=wanted("tea", 2))).status_code == 201
    lost = {"delta": -1, "reason": "A cup fell"}
    gone = await admin.post(STOCK, json=lost, headers=issuer.bearer("admin", sub="a-2"))

    page = (await admin.get(STOCK, params={"limit": 1})).json()
    assert (page["available"], page["items"]) == (3, [gone.json()])
    assert gone.json() | {"id": "", "at": ""} == {
        "id": "", "sku": "tea", "variation": None, "balance": 3, "actor": "a-2", "at": "", **lost,
    }  # fmt: skip
    rest = (await admin.get(STOCK, params={"limit": 1, "cursor": page["next"]})).json()
    assert (rest["items"], rest["next"]) == ([came.json()], None)


async def test_no_stock_goes_below_nothing_or_beyond_all_measure(admin: httpx.AsyncClient, left: Left):
    refused = await admin.post(STOCK, json={"delta": -2, "reason": "thrown away"})
    assert (kind(refused), refused.json()["available"]) == ((409, "stock-out-of-range"), 1)
    for _ in range(2):
        await admin.post(STOCK, json={"delta": 1_000_000, "reason": "a lot"})
    answers = await asyncio.gather(*(admin.post(STOCK, json={"delta": -1_000_000, "reason": "less"}) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409]
    assert left("tea") == 1
    assert len((await admin.get(STOCK)).json()["items"]) == 4


async def test_a_move_under_a_key_is_made_once(admin: httpx.AsyncClient, issuer: Issuer, left: Left):
    body, key = {"delta": 3, "reason": "Delivery"}, {"Idempotency-Key": "monday"}
    answers = await asyncio.gather(*(admin.post(STOCK, json=body, headers=key) for _ in range(10)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.headers.get("idempotency-replayed", "") for answer in answers) == ["", *["true"] * 9]
    assert left("tea") == 4

    for changed in ({"delta": 4}, {"reason": "Theft"}, {"variation": "black"}):
        assert kind(await admin.post(STOCK, json=body | changed, headers=key)) == (422, "idempotency-mismatch")
    assert kind(await admin.post(f"{PRODUCTS}/latte/stock", json=body, headers=key)) == (422, "idempotency-mismatch")
    other = await admin.post(STOCK, json=body, headers=key | issuer.bearer("admin", sub="a-2"))
    assert (other.status_code, other.json()["balance"]) == (201, 7)


async def test_a_key_of_the_last_ones_answers_when_nothing_is_left(admin: httpx.AsyncClient):
    key = {"Idempotency-Key": "all"}
    answers = [await admin.post(STOCK, json={"delta": -1, "reason": "sold"}, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]


async def test_a_new_product_is_sold_once_there_is_some_of_it(admin: httpx.AsyncClient, wanted: Body):
    price = {"amount": "4.20", "currency": "USD"}
    made = {"sku": "mocha", "name": "Mocha", "variations": [{"name": "regular", "price": price}]}
    assert (await admin.post(PRODUCTS, json=made)).status_code == 201
    assert kind(await admin.post(ORDERS, json=wanted("mocha"))) == (409, "out-of-stock")
    moved = await admin.post(f"{PRODUCTS}/mocha/stock", json={"delta": 1, "reason": "the first"})
    assert moved.json()["balance"] == 1
    assert (await admin.post(ORDERS, json=wanted("mocha"))).status_code == 201
    assert (await admin.get(f"{PRODUCTS}/mocha/stock")).json()["available"] == 0


async def test_stock_is_a_tenants(admin: httpx.AsyncClient, issuer: Issuer):
    await admin.post(STOCK, json={"delta": 5, "reason": "ours"})
    elsewhere = (await admin.get(STOCK, headers=issuer.bearer("admin", tenant="other"))).json()
    assert (elsewhere["available"], elsewhere["items"]) == (1, [])


async def test_what_can_be_no_move_is_refused_by_name(admin: httpx.AsyncClient):
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"delta": 0}, "/delta"),
        ({"delta": 1.5}, "/delta"),
        ({"delta": True}, "/delta"),
        ({"delta": 1_000_001}, "/delta"),
        ({"reason": ""}, "/reason"),
        ({"reason": "a\nb"}, "/reason"),
        ({"variation": "garlic"}, "/variation"),
        ({"tenant": "other"}, "/tenant"),
    ]
    told = [await admin.post(STOCK, json={"delta": 1, "reason": "r"} | changed) for changed, _ in wrong]
    assert [(answer.status_code, answer.json()["errors"][0]["pointer"]) for answer in told] == [
        (422, pointer) for _, pointer in wrong
    ]
    for sku in ("unicorn", "a%20b"):
        missing = await admin.post(f"{PRODUCTS}/{sku}/stock", json={"delta": 1, "reason": "r"})
        assert kind(missing) == kind(await admin.get(f"{PRODUCTS}/{sku}/stock")) == (404, "product-not-found")
    assert (await admin.get(STOCK)).json()["items"] == []
