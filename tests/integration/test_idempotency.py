"""Idempotency-Key on POST /orders, with the real state store."""

import asyncio
import uuid

import pytest
from brewery import ORDER, PUBLIC, Brewery, order_body


async def test_five_requests_with_one_key_at_once_are_one_order(brew: Brewery) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    before = brew.count(ORDER, "orders")
    answers = await asyncio.gather(*(brew.place(headers=key) for _ in range(5)))
    assert brew.count(ORDER, "orders") == before + 1
    statuses = [answer.status_code for answer in answers]
    assert 201 in statuses
    assert set(statuses) <= {201, 202, 409}
    placed = {answer.json()["id"] for answer in answers if answer.status_code != 409}
    assert len(placed) == 1
    late = await brew.place(headers=key)
    assert (late.status_code, late.headers["idempotency-replayed"], {late.json()["id"]}) == (201, "true", placed)
    assert await brew.ledger(late.json()["id"]) == ["charge"]


async def test_a_key_belongs_to_its_body(brew: Brewery) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    assert (await brew.place(headers=key)).status_code == 201
    other = await brew.place(headers=key, quantity=2)
    assert (other.status_code, other.json()["errorType"]) == (422, "idempotency-mismatch")


async def test_a_declined_order_is_answered_alike_again(brew: Brewery) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first = await brew.place(headers=key, token="tok_declined")
    again = await brew.place(headers=key, token="tok_declined")
    assert (first.status_code, again.status_code) == (402, 402)
    assert first.json()["orderId"] == again.json()["orderId"]
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_refused_order_frees_its_key(brew: Brewery) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    too_many = [{"sku": "counted", "quantity": 1000}]
    refused = await brew.api.post(PUBLIC, json=order_body() | {"items": too_many}, headers=key)
    assert refused.status_code == 409
    assert (await brew.place(headers=key)).status_code == 201


@pytest.mark.only_on("sqlite")
async def test_without_the_store_a_key_is_refused_and_no_key_is_served(brew: Brewery) -> None:
    before = brew.count(ORDER, "orders")
    brew.stack.stop_redis()
    refused = await brew.place(headers={"Idempotency-Key": str(uuid.uuid4())})
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert brew.count(ORDER, "orders") == before
    served = await brew.place()
    assert served.status_code in {201, 202}
    brew.stack.start_redis()
    await brew.becomes(served.json()["id"], status="confirmed")
    assert len(await brew.mailed(served.json()["id"], within=40)) == 1
