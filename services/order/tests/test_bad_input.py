"""What is wrong with a request is said by name, and nothing is written and nothing asked of payment."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from stack.fake_sidecar import FakeSidecar

Body = Callable[..., dict[str, Any]]
Rows = Callable[[str], list[Any]]
Running = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
ORDERS = "/api/v1/orders"
MEMBERS = {"type", "title", "status", "detail", "instance", "traceId", "errorType", "timestamp"}


@pytest.fixture(autouse=True)
def nothing_happens(rows: Rows, sidecar: FakeSidecar):
    """Whatever these tests send, nothing of it is kept and nobody is asked anything."""
    yield
    for table in ("orders", "outbox", "timeline", "stock"):
        assert rows(f"SELECT * FROM {table}") == []  # noqa: S608
    assert (sidecar.invoked, sidecar.published, sidecar.workflows) == ([], [], {})


def item(**change: Any) -> dict[str, Any]:
    return {"sku": "latte", "quantity": 1} | change


def assert_problem(answer: httpx.Response, status: int, error_type: str, *pointers: str) -> None:
    problem = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) >= MEMBERS
    assert (problem["status"], problem["errorType"]) == (status, error_type)
    assert [error["pointer"] for error in problem.get("errors", [])] == list(pointers)


def customer(**change: Any) -> dict[str, Any]:
    return {"customer": {"id": "c-1", "name": "Ada", "email": "ada@example.com"} | change}


NO_ADDRESSES = (
    "not an address",
    "ada@example.com\nBcc: x@example.com",
    "ada,bob@example.com",
    "<ada@example.com>",
    "Ada <ada@example.com>",
    '"ada"@example.com',
    "ada@localhost",
    "ada@[192.0.2.1]",
    "ada@example.com ",
    "a\u200bda@example.com",
    "a\u202eda@example.com",
    "ada@exam\u00adple.com",
)
CARD = "4111 1111 1111 1111"

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"items": [item(sku="unicorn")]}, "/items/0/sku"),
    ({"items": [item(), item(variation="garlic")]}, "/items/1/variation"),
    ({"items": [item(quantity=0)]}, "/items/0/quantity"),
    ({"items": [item(quantity=10_000_000)]}, "/items/0/quantity"),
    ({"items": [item(quantity=1.5)]}, "/items/0/quantity"),
    ({"items": []}, "/items"),
    ({"items": [item()] * 51}, "/items"),
    ({"items": "latte"}, "/items"),
    ({"currency": "EUR"}, "/currency"),
    ({"currency": "dollars"}, "/currency"),
    ({"location": "moon"}, "/location"),
    ({"payment": {"token": "4242424242424242"}}, "/payment/token"),
    ({"payment": {"token": "tok_ok", "cvc": "123"}}, "/payment/cvc"),
    *(
        ({"payment": {"token": token}}, "/payment/token")
        for token in ("tok 1", "t", "tok_\nok", "tok_4111111111111111")
    ),
    ({"payment": {"token": "tok_ok", "methd": "debit_card"}}, "/payment/methd"),
    ({"items": [item(quantity=True)]}, "/items/0/quantity"),
    ({"items": [item(quantity="1")]}, "/items/0/quantity"),
    ({"items": [item(qty=2)]}, "/items/0/qty"),
    ({"customer": {"id": "c-1", "name": "Ada"}}, "/customer/email"),
    *((customer(email=email), "/customer/email") for email in NO_ADDRESSES),
    *((customer(name=name), "/customer/name") for name in ("", "\ud83d", "Ada\r\nBcc: x", "\u3164", " \u200b\ufe0f")),
    (customer(name=f"Ada {CARD}"), "/customer/name"),
    (customer(id=CARD.replace(" ", "")), "/customer/id"),
    (customer(email=f"{CARD.replace(' ', '')}@example.com"), "/customer/email"),
    (customer(phone="12"), "/customer/phone"),
    (customer(id="a b"), "/customer/id"),
    *((customer(locale=tag), "/customer/locale") for tag in ("../../etc", "e", "en-", "en-u-", "en" + "-abcdefgh" * 5)),
    (customer(mail="ada@example.com"), "/customer/mail"),
    (customer(tenant_id="t"), "/customer/tenant_id"),
    ({"a/b~c": 1}, "/a~1b~0c"),
    ({"\ud83d": 1}, ""),
]


async def test_the_field_that_is_wrong_is_named(client: httpx.AsyncClient, wanted: Body):
    for change, pointer in WRONG:
        body = json.dumps(wanted(**change))
        answer = await client.post(ORDERS, content=body, headers={"Content-Type": "application/json"})

        assert_problem(answer, 422, "invalid-request", pointer)
        assert not any(card in answer.text for card in ("4242424242424242", CARD, CARD.replace(" ", ""))), change


@pytest.mark.parametrize("key", [None, "k-1"])
async def test_every_wrong_field_is_named_at_once(client: httpx.AsyncClient, sidecar: FakeSidecar, key: str | None):
    headers = {"Idempotency-Key": key} if key else {}

    answer = await client.post(ORDERS, json={"items": [item(quantity=0)], "currency": "usd"}, headers=headers)

    assert_problem(answer, 422, "invalid-request", "/customer", "/items/0/quantity", "/currency", "/payment")
    assert sidecar.state == {}


async def test_what_the_catalog_does_not_have_is_not_recorded_under_a_key(
    client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar
):
    answer = await client.post(ORDERS, json=wanted("unicorn"), headers={"Idempotency-Key": "k-1"})

    assert_problem(answer, 422, "invalid-request", "/items/0/sku")
    assert not [name for name in sidecar.state if name.startswith("idem:")]


async def test_a_body_that_is_no_json_is_400(client: httpx.AsyncClient):
    for body in (b'{"customer": ', b"{'a': 1}", b"nonsense", b'{"a": "\xff"}', b"[" * 100_000, b"[" * 600 + b"]" * 600):
        answer = await client.post(ORDERS, content=body, headers={"Content-Type": "application/json"})

        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"


async def test_broken_json_says_so(client: httpx.AsyncClient):
    answer = await client.post(ORDERS, content=b'{"a": ', headers={"Content-Type": "application/json"})

    assert_problem(answer, 400, "malformed-json")


async def test_json_that_is_no_order_is_422(client: httpx.AsyncClient):
    for body in (b"[]", b"null", b'"latte"', b""):
        answer = await client.post(ORDERS, content=body, headers={"Content-Type": "application/json"})

        assert_problem(answer, 422, "invalid-request", "")


async def test_a_body_of_two_megabytes_is_413(client: httpx.AsyncClient, wanted: Body):
    body = wanted(customer={"id": "c-1", "name": "A" * 2_000_000, "email": "ada@example.com"})

    assert_problem(await client.post(ORDERS, json=body), 413, "body-too-large")


async def test_a_body_of_two_megabytes_without_a_declared_length_is_413(client: httpx.AsyncClient):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    answer = await client.post(ORDERS, content=pieces(), headers={"Content-Type": "application/json"})

    assert_problem(answer, 413, "body-too-large")


NO_PAGES: list[tuple[dict[str, str], str]] = [
    ({"limit": "-1"}, "?limit"),
    ({"limit": "0"}, "?limit"),
    ({"limit": "101"}, "?limit"),
    ({"limit": "many"}, "?limit"),
    ({"cursor": "nonsense"}, "?cursor"),
    ({"cursor": ""}, "?cursor"),
    ({"cursor": "☕"}, "?cursor"),
    ({"cursor": "A" * 22}, "?cursor"),
    ({"cursor": "A" * 65}, "?cursor"),
    ({"status": "eaten"}, "?status"),
    ({"customerId": "c" * 65}, "?customerId"),
]


async def test_a_page_that_can_not_be_is_refused(client: httpx.AsyncClient):
    for query, pointer in NO_PAGES:
        assert_problem(await client.get(ORDERS, params=query), 422, "invalid-request", pointer)


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_key_that_is_empty_or_too_long_is_refused(
    client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar, key: str
):
    answer = await client.post(ORDERS, json=wanted(), headers={"Idempotency-Key": key})

    assert_problem(answer, 422, "invalid-request", "idempotency-key")
    assert sidecar.state == {}


async def test_a_tracking_number_that_could_forge_a_header_is_refused(client: httpx.AsyncClient):
    answer = await client.post(
        f"{ORDERS}/01a1fbbf-558b-7270-a903-acb8a9a960dd/ship", json={"trackingNumber": "1Z\r\nX: y"}
    )

    assert_problem(answer, 422, "invalid-request", "/trackingNumber")


async def test_a_path_that_is_not_there_and_a_method_that_is_not_allowed_are_problems_too(client: httpx.AsyncClient):
    assert_problem(await client.get("/api/v1/nothing"), 404, "not-found")
    assert_problem(await client.delete(ORDERS), 405, "method-not-allowed")


async def test_a_sidecar_last_seen_down_is_503_before_anything_is_written(
    client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar
):
    sidecar.alive = False

    answer = await client.post(ORDERS, json=wanted())

    assert_problem(answer, 503, "sidecar-unavailable")
    assert int(answer.headers["retry-after"]) > 0


async def test_a_service_whose_sidecar_is_down_is_not_ready(client: httpx.AsyncClient, sidecar: FakeSidecar):
    assert (await client.get("/health")).json()["status"] == "Healthy"
    sidecar.alive = False

    answer = await client.get("/health/ready")

    assert_problem(answer, 503, "unhealthy")
    assert answer.json()["health"] == "Unhealthy"
    assert (await client.get("/health/live")).status_code == 200
