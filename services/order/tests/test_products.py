"""An admin's products: each tenant's own over what ships, for the next order and for none that was placed before."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from stack.issuer import Issuer

CATALOG, PRODUCTS, ORDERS = "/api/v1/catalog", "/api/v1/catalog/products", "/api/v1/orders"
Body = Callable[..., dict[str, Any]]


@pytest.fixture
def admin(client: httpx.AsyncClient, issuer: Issuer) -> httpx.AsyncClient:
    client.headers = issuer.bearer("admin", sub="a-1")  # type: ignore[assignment]  # httpx takes a dict
    return client


def product(**changed: Any) -> dict[str, Any]:
    price = {"amount": "4.20", "currency": "USD"}
    return {"name": "Flat white", "variations": [{"name": "regular", "price": price}]} | changed


async def shown(client: httpx.AsyncClient, path: str = CATALOG, headers: dict[str, str] | None = None) -> list[str]:
    answer = await client.get(path, headers=headers)
    assert answer.status_code == 200
    return [item["sku"] for item in answer.json()["items"]]


def kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errorType"]


async def test_a_new_product_is_shown_at_its_place_and_a_featured_one_among_the_featured(admin: httpx.AsyncClient):
    for sku, place, featured in (("ristretto", 2, True), ("mocha", 1, True), ("water", 1, False)):
        body = product(sku=sku, name=sku.title(), sortOrder=place, featured=featured)
        answer = await admin.post(PRODUCTS, json=body)
        assert (answer.status_code, answer.json()) == (201, body | {"version": 1})

    assert await shown(admin) == ["latte", "tea", "mocha", "water", "ristretto"]
    assert await shown(admin, f"{CATALOG}/featured") == ["latte", "mocha", "ristretto"]


async def test_a_tenants_products_are_its_own_and_a_guest_is_shown_the_public_tenants(
    admin: httpx.AsyncClient, issuer: Issuer
):
    await admin.post(PRODUCTS, json=product(sku="ours"))
    await admin.post(PRODUCTS, json=product(sku="theirs"), headers=issuer.bearer("admin", tenant="other"))

    for path in (CATALOG, f"{CATALOG}/featured"):
        assert "theirs" not in await shown(admin, path)
    assert await shown(admin, headers=issuer.bearer("user")) == ["ours", "latte", "tea"]
    assert await shown(admin, headers=issuer.bearer("user", tenant="other")) == ["theirs", "latte", "tea"]
    assert await shown(admin, headers={"Authorization": ""}) == ["ours", "latte", "tea"]


async def test_a_sku_is_one_product_until_it_is_deleted(admin: httpx.AsyncClient):
    assert kind(await admin.post(PRODUCTS, json=product(sku="tea"))) == (409, "product-exists")
    answers = await asyncio.gather(*(admin.post(PRODUCTS, json=product(sku="mocha")) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]

    for sku in ("tea", "mocha"):
        assert (await admin.delete(f"{PRODUCTS}/{sku}")).status_code == 204
        assert (await admin.delete(f"{PRODUCTS}/{sku}")).status_code == 204
        assert kind(await admin.put(f"{PRODUCTS}/{sku}", json=product(version=1))) == (404, "product-not-found")
        assert sku not in await shown(admin)
        again = await admin.post(PRODUCTS, json=product(sku=sku))
        assert again.status_code == 201
        assert again.json()["version"] > 1
    assert kind(await admin.delete(f"{PRODUCTS}/nothing")) == (404, "product-not-found")


async def test_of_two_who_change_a_version_one_has(admin: httpx.AsyncClient):
    names = [f"Tea {number}" for number in range(4)]
    answers = await asyncio.gather(
        *(admin.put(f"{PRODUCTS}/tea", json=product(name=name, version=0)) for name in names)
    )
    [won] = [answer.json() for answer in answers if answer.status_code == 200]
    lost = [answer for answer in answers if answer.status_code == 409]

    assert len(lost) == 3
    assert {(kind(answer), answer.json()["currentVersion"]) for answer in lost} == {((409, "concurrency-conflict"), 1)}
    assert won["version"] == 1
    assert (await admin.put(f"{PRODUCTS}/tea", json=product(version=1))).json()["version"] == 2
    assert kind(await admin.put(f"{PRODUCTS}/nothing", json=product(version=0))) == (404, "product-not-found")


async def test_a_new_price_is_the_next_orders_and_no_placed_ones(admin: httpx.AsyncClient, wanted: Body):
    placed = (await admin.post(ORDERS, json=wanted())).json()
    dearer = product(version=0, variations=[{"name": "plain", "price": {"amount": "5", "currency": "USD"}}])
    assert (await admin.put(f"{PRODUCTS}/latte", json=dearer)).status_code == 200

    assert (await admin.post(ORDERS, json=wanted())).json()["total"] == {"amount": "5.00", "currency": "USD"}
    before = (await admin.get(f"{ORDERS}/{placed['id']}")).json()
    assert before["total"] == placed["total"] == {"amount": "4.00", "currency": "USD"}
    assert before["items"] == placed["items"]


async def test_what_is_deleted_is_ordered_no_more_and_what_was_ordered_can_still_be_given_back(
    admin: httpx.AsyncClient, wanted: Body, left: Callable[[str], int | None]
):
    placed = (await admin.post(ORDERS, json=wanted("tea"))).json()
    await admin.delete(f"{PRODUCTS}/tea")

    refused = await admin.post(ORDERS, json=wanted("tea"))
    assert (kind(refused), refused.json()["errors"][0]["pointer"]) == ((422, "invalid-request"), "/items/0/sku")
    assert (await admin.post(f"{ORDERS}/{placed['id']}/cancel")).status_code == 200
    assert left("tea") == 1


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"sku": "a b"}, "/sku"),
    ({"sku": "x" * 65}, "/sku"),
    ({"name": ""}, "/name"),
    ({"name": "\u200b"}, "/name"),
    ({"sortOrder": -1}, "/sortOrder"),
    ({"sortOrder": True}, "/sortOrder"),
    ({"version": 0}, "/version"),
    ({"variations": []}, "/variations"),
    ({"variations": [{"name": "a", "price": {"amount": 4.2}}]}, "/variations/0/price/amount"),
    ({"variations": [{"name": "a", "price": {"amount": "-1"}}]}, "/variations/0/price/amount"),
    ({"variations": [{"name": "a", "price": {"amount": "0.00"}}]}, "/variations/0/price/amount"),
    ({"variations": [{"name": "a", "price": {"amount": "1.005"}}]}, "/variations/0/price/amount"),
    ({"variations": [{"name": "a", "price": {"amount": "1.5", "currency": "JPY"}}]}, "/variations/0/price/amount"),
    ({"variations": [{"name": "a", "price": {"amount": "1", "currency": "ZZZ"}}]}, "/variations/0/price/currency"),
    ({"variations": [{"name": "a", "price": {"amount": "1"}}] * 2}, "/variations/1/name"),
]


async def test_what_can_be_no_product_is_refused_by_name(admin: httpx.AsyncClient):
    told = [await admin.post(PRODUCTS, json=product(sku="mocha") | changed) for changed, _ in WRONG]
    assert [(answer.status_code, answer.json()["errors"][0]["pointer"]) for answer in told] == [
        (422, pointer) for _, pointer in WRONG
    ]
    for sku in ("..%2F", "%00", "a%20b", "x" * 65, "\u202e"):
        assert kind(await admin.put(f"{PRODUCTS}/{sku}", json=product(version=0))) == (404, "product-not-found")
    assert await shown(admin) == ["latte", "tea"]


async def test_products_are_an_admins(admin: httpx.AsyncClient, issuer: Issuer):
    staff = issuer.bearer("staff")
    for method, path in (("POST", ""), ("PUT", "/tea"), ("DELETE", "/tea"), ("POST", "/tea/stock")):
        assert kind(await admin.request(method, PRODUCTS + path, json={}, headers=staff)) == (403, "role-missing")
    assert (await admin.get(f"{PRODUCTS}/tea/stock", headers=staff)).status_code == 200
    refused = await admin.get(f"{PRODUCTS}/tea/stock", headers=issuer.bearer("user"))
    assert kind(refused) == (403, "role-missing")


async def test_the_catalog_is_asked_of_the_database_only_once_it_is_cleared(
    admin: httpx.AsyncClient, behind: Callable[[str], None]
):
    featured = f"{CATALOG}/featured"
    assert await shown(admin, featured) == ["latte"]
    then = "'2026-01-01 00:00:00'"
    behind(f"INSERT INTO products VALUES ('default', 'latte', 'Latte', true, 0, 1, '[]', 'a-1', {then}, {then})")  # noqa: S608  the test's own words
    assert await shown(admin, featured) == ["latte"]

    assert (await admin.post("/api/v1/cache/clear", params={"pattern": "catalog*"})).json()["caches"] == ["order"]
    assert await shown(admin, featured) == []
