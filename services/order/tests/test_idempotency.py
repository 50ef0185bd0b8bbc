"""One key, one order: replayed, refused, freed, and taken up again after a crash."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from chassis.edge.auth import Caller, Role
from chassis.ids import now
from chassis.sidecar import SidecarDown
from order.idempotency import IdempotencyInFlight, IdempotencyMismatch, IdempotencyRecords
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar

Body = Callable[..., dict[str, Any]]
Rows = Callable[[str], list[Any]]
Running = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
ORDERS = "/api/v1/orders"
KEY = {"Idempotency-Key": "k-1"}


def caller(tenant: str, subject: str) -> Caller:
    return Caller(tenant=tenant, tenant_name=tenant, subject=subject, roles=frozenset({Role.STAFF}))


STAFF = caller("default", "s-1")  # whose token the client has


class StoreDown(FakeSidecar):
    """The sidecar lives, its state store does not: as Dapr, it refuses every write and read."""

    async def insert_state(self, store: str, key: str, value: Any, *, ttl_seconds: int) -> bool:  # noqa: ARG002
        return False

    async def get_state(self, store: str, key: str) -> tuple[Any, str]:  # noqa: ARG002
        raise SidecarDown(store)


async def test_the_same_request_again_is_answered_with_the_same_order(
    client: httpx.AsyncClient, wanted: Body, rows: Rows, sidecar: FakeSidecar
):
    first = await client.post(ORDERS, json=wanted(), headers=KEY)
    again = await client.post(ORDERS, json=wanted(), headers=KEY)

    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(rows("SELECT * FROM orders")) == len(sidecar.invoked) == 1


async def test_the_replay_is_the_orders_present_answer(client: httpx.AsyncClient, wanted: Body):
    first = await client.post(ORDERS, json=wanted(), headers=KEY)
    await client.post(f"{first.headers['location']}/status", json={"status": "preparation"})

    again = await client.post(ORDERS, json=wanted(), headers=KEY)

    assert (again.status_code, again.json()["status"]) == (201, "preparation")


async def test_the_replay_of_a_cancelled_order_is_no_success(client: httpx.AsyncClient, wanted: Body):
    first = await client.post(ORDERS, json=wanted(), headers=KEY)
    await client.post(f"{first.headers['location']}/cancel")

    again = await client.post(ORDERS, json=wanted(), headers=KEY)

    assert (again.status_code, again.json()["errorType"]) == (409, "order-cancelled")
    assert again.json()["orderId"] == first.json()["id"]
    assert (again.headers["location"], again.headers["idempotency-replayed"]) == (first.headers["location"], "true")


@pytest.mark.parametrize(("token", "status"), [("tok_declined", 402), ("tok_unknown", 202)])
async def test_a_decline_and_an_open_order_are_replayed_too(
    client: httpx.AsyncClient, wanted: Body, rows: Rows, token: str, status: int
):
    answers = [await client.post(ORDERS, json=wanted(token=token), headers=KEY) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [status, status]
    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true"]
    assert len(rows("SELECT * FROM orders")) == 1


async def test_the_same_key_with_another_body_is_refused(client: httpx.AsyncClient, wanted: Body, rows: Rows):
    await client.post(ORDERS, json=wanted("latte", 1), headers=KEY)

    answer = await client.post(ORDERS, json=wanted("latte", 2), headers=KEY)

    assert (answer.status_code, answer.json()["errorType"]) == (422, "idempotency-mismatch")
    assert len(rows("SELECT * FROM orders")) == 1


async def test_five_at_once_under_one_key_place_one_order(client: httpx.AsyncClient, wanted: Body, rows: Rows):
    answers = await asyncio.gather(*(client.post(ORDERS, json=wanted(), headers=KEY) for _ in range(5)))

    assert {answer.status_code for answer in answers} <= {201, 202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code != 409}) == 1
    [row] = rows("SELECT * FROM orders")
    assert (await client.get(f"{ORDERS}/{row.id}")).json()["status"] in {"confirmed", "pending_payment"}


async def test_while_the_first_request_is_under_way_the_second_is_told_so(
    running: Running, sidecar: FakeSidecar, wanted: Body
):
    async with running(sidecar) as client:
        await _crash_before_placing(client, sidecar, wanted)

        answer = await client.post(ORDERS, json=wanted(), headers=KEY)

    assert (answer.status_code, answer.json()["errorType"]) == (409, "idempotency-in-flight")
    assert answer.headers["retry-after"] == "1"


async def test_after_a_crashed_first_request_the_order_is_placed_under_the_same_id(
    running: Running, sidecar: FakeSidecar, wanted: Body
):
    async with running(sidecar) as client:
        reserved = await _crash_before_placing(client, sidecar, wanted)
        [record] = sidecar.state.values()
        record["leasedUntil"] = (now() - timedelta(seconds=1)).isoformat()

        answer = await client.post(ORDERS, json=wanted(), headers=KEY)
        again = await client.post(ORDERS, json=wanted(), headers=KEY)

    assert (answer.status_code, answer.json()["id"]) == (201, reserved)
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (reserved, "true")


async def test_two_retries_after_a_crash_race_for_the_primary_key_and_one_places(
    running: Running, sidecar: FakeSidecar, wanted: Body, rows: Rows, left: Callable[[str], int | None]
):
    async with running(sidecar) as client:
        reserved = await _crash_before_placing(client, sidecar, wanted)
        [record] = sidecar.state.values()
        record["leasedUntil"] = (now() - timedelta(seconds=1)).isoformat()

        answers = await asyncio.gather(*(client.post(ORDERS, json=wanted(), headers=KEY) for _ in range(4)))

    assert {answer.status_code for answer in answers} <= {201, 202}
    assert {answer.json()["id"] for answer in answers} == {reserved}
    assert len(rows("SELECT * FROM orders")) == 1
    assert left("latte") == 4


async def test_a_refusal_frees_the_key(client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar):
    refused = await client.post(ORDERS, json=wanted("tea", 2), headers=KEY)
    assert refused.status_code == 409
    assert not [name for name in sidecar.state if name.startswith("idem:")]

    answer = await client.post(ORDERS, json=wanted("tea", 1), headers=KEY)

    assert answer.status_code == 201


async def test_a_store_that_is_down_is_503_and_nothing_is_written(
    running: Running, sidecar: FakeSidecar, wanted: Body, rows: Rows
):
    down = StoreDown(sidecar.answers)
    down.alive = True
    async with running(down) as client:
        answer = await client.post(ORDERS, json=wanted(), headers=KEY)
        without_key = await client.post(ORDERS, json=wanted())

    assert (answer.status_code, answer.json()["errorType"]) == (503, "statestore-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert without_key.status_code == 201, "one without a key needs no store"
    assert len(rows("SELECT * FROM orders")) == 1


async def test_a_keys_text_never_becomes_part_of_a_state_key(
    client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar
):
    await client.post(ORDERS, json=wanted(), headers={"Idempotency-Key": "a||b/../c"})

    [name] = [name for name in sidecar.state if not name.startswith("cache:")]
    assert name.startswith("idem:")
    assert "||" not in name
    assert "tok_" not in str(sidecar.state)


async def test_a_key_belongs_to_its_tenant_and_caller(sidecar: FakeSidecar):
    records = IdempotencyRecords(sidecar=sidecar, store="statestore")
    callers = [caller(t, s) for t, s in (("a", "bc"), ("ab", "c"), ("a", "b"))]

    made = [await records.reserve(one, "k", b"body") for one in callers]

    assert all(one.first for one in made)
    assert len({one.order_id for one in made}) == 3


async def test_a_record_that_is_forgotten_can_be_made_anew(sidecar: FakeSidecar):
    records = IdempotencyRecords(sidecar=sidecar, store="statestore")
    first = await records.reserve(STAFF, "k", b"one")
    with pytest.raises(IdempotencyMismatch):
        await records.reserve(STAFF, "k", b"two")
    with pytest.raises(IdempotencyInFlight):
        (await records.reserve(STAFF, "k", b"one")).check_free()

    await records.forget(STAFF, "k")

    second = await records.reserve(STAFF, "k", b"two")
    assert second.first
    assert second.order_id != first.order_id


async def _crash_before_placing(client: httpx.AsyncClient, sidecar: FakeSidecar, wanted: Body) -> str:
    """The key's record as a request leaves it that died between the record and the order; the id it reserved."""
    request = client.build_request("POST", ORDERS, json=wanted(), headers=KEY)
    records = IdempotencyRecords(sidecar=sidecar, store="statestore")
    reserved = await records.reserve(STAFF, KEY["Idempotency-Key"], request.content)
    await eventually(lambda: len(sidecar.state) == 1, every=0.005)
    return reserved.order_id
