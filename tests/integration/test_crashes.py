"""Processes die between two lines. Nothing is lost, and nothing is done twice."""

import asyncio
import random

import httpx
import pytest
from brewery import ORDER, PAYMENT, PUBLIC, Brewery, workflows

from chassis.story import Reference
from chassis.takeover import instance_id
from order.saga import WORKFLOW, OrderRef
from stack.eventually import eventually


async def test_payment_killed_during_a_charge_charges_once(brew: Brewery) -> None:
    await brew.fault("payment-a", mode="ok", delayMs=1500)
    order_id = await brew.place_async()
    await eventually(lambda: brew.payment_status(order_id) == "processing")
    brew.kill(PAYMENT)
    await brew.fair()
    brew.start(PAYMENT)
    await brew.becomes(order_id, status="confirmed", within=60)
    assert await brew.ledger(order_id) == ["charge"]


async def test_order_killed_between_charge_and_confirm_is_taken_over(brew: Brewery) -> None:
    await brew.fault("payment-a", mode="ok", delayMs=700)
    order_id = await brew.place_async()
    await eventually(lambda: brew.payment_status(order_id) == "processing")
    brew.freeze(ORDER)  # it can't hear payment's answer any more
    await eventually(lambda: brew.payment_status(order_id) == "succeeded")
    brew.kill(ORDER)
    await brew.fair()
    brew.start(ORDER)
    await brew.becomes(order_id, status="confirmed", within=25)
    assert await brew.ledger(order_id) == ["charge"]
    assert len(await brew.mailed(order_id)) == 1
    assert (await brew.timeline(order_id))["charge"]["attempts"] >= 1


async def test_both_drivers_on_one_order_are_one_charge_and_one_mail(brew: Brewery) -> None:
    await brew.fault("payment-a", mode="ok", delayMs=500)
    order_id = await brew.place_async()
    await _start_workflow(brew, order_id)
    await brew.becomes(order_id, status="confirmed")
    await brew.fair()
    await eventually(lambda: _ended_workflow(brew, order_id))
    timeline = await brew.timeline(order_id)
    assert [timeline[step]["attempts"] for step in ("charge", "confirm")] == [1, 1]  # the later one only finds it done
    assert await brew.ledger(order_id) == ["charge"]
    assert len(await brew.mailed(order_id)) == 1
    events = brew.rows(ORDER, "SELECT type FROM outbox WHERE aggregate_id = ? ORDER BY seq", order_id)
    assert [row["type"] for row in events] == ["order.created.v1", "order.confirmed.v1"]


async def test_killed_after_cancelled_and_before_the_refund_is_refunded(brew: Brewery) -> None:
    order_id = (await brew.place()).json()["id"]
    brew.freeze(PAYMENT)  # the refund can't be asked for
    cancelling = asyncio.create_task(brew.api.post(f"{PUBLIC}/{order_id}/cancel"))
    await eventually(lambda: _status(brew, order_id) == "cancelled")
    brew.kill(ORDER)
    await asyncio.gather(cancelling, return_exceptions=True)
    assert await brew.ledger(order_id) == ["charge"]
    brew.thaw(PAYMENT)
    brew.start(ORDER)
    await brew.becomes(order_id, status="cancelled", payment="refunded", within=60)
    assert await brew.ledger(order_id) == ["charge", "refund"]


async def test_a_sidecar_that_dies_means_503_before_anything_is_written(brew: Brewery) -> None:
    orders = brew.count(ORDER, "orders")
    brew.stack.kill_sidecar(ORDER)

    async def refused() -> httpx.Response | None:
        answer = await brew.place(id="sidecarless")
        return answer if answer.status_code == 503 else None

    answer = await eventually(refused)
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["errorType"] == "sidecar-unavailable"
    before = brew.count(ORDER, "orders")  # what came in before the check noticed is kept, not lost
    await refused()
    assert brew.count(ORDER, "orders") == before
    brew.stack.heal()
    for row in brew.rows(ORDER, "SELECT id FROM orders ORDER BY id DESC LIMIT ?", before - orders):
        await brew.becomes(row["id"], status="confirmed", within=100)


@pytest.mark.only_on("sqlite")
async def test_payment_down_is_202_and_finished_when_it_is_back(brew: Brewery) -> None:
    brew.kill(PAYMENT)
    answer = await brew.place()
    assert answer.status_code == 202
    brew.start(PAYMENT)
    await brew.becomes(answer.json()["id"], status="confirmed", within=90)
    assert await brew.ledger(answer.json()["id"]) == ["charge"]


async def test_cancel_raced_against_confirm_ends_one_way_or_the_other(brew: Brewery) -> None:
    chance = random.Random(7)  # noqa: S311  the moments of a race, not secrets
    await brew.place(sku="raced")
    at_first = brew.stock("raced") or 0
    lanes = asyncio.Semaphore(4)

    async def race(after: float) -> str:
        async with lanes:
            order_id = await brew.place_async(sku="raced")
            await asyncio.sleep(after)  # the race itself, anywhere around the confirmation
            if after < 0.06:
                assert (await brew.api.post(f"{PUBLIC}/{order_id}/cancel")).status_code in {200, 202}
            return order_id

    raced = await asyncio.gather(*(race(chance.uniform(0, 0.08)) for _ in range(100)))
    confirmed = 0
    for order_id in raced:
        order = await eventually(lambda order_id=order_id: _settled(brew, order_id), within=60, every=0.2)
        entries = await brew.ledger(order_id)
        if order["status"] == "confirmed":
            confirmed += 1
            assert entries == ["charge"]
        else:
            assert order["status"] == "cancelled"
            assert entries in ([], ["charge", "refund"])
    assert brew.stock("raced") == at_first - confirmed


async def _settled(brew: Brewery, order_id: str) -> dict[str, str] | None:
    order = await brew.order(order_id)
    open_still = order["status"] == "pending_payment" or order["payment"]["status"] in {"processing", "refund_pending"}
    return None if open_still else order


def _status(brew: Brewery, order_id: str) -> str:
    return brew.rows(ORDER, "SELECT status FROM orders WHERE id = ?", order_id)[0]["status"]


async def _start_workflow(brew: Brewery, order_id: str) -> None:
    ref: Reference = OrderRef(tenant="default", id=order_id)
    argument = {"reference": ref.model_dump(mode="json"), "attempt": 0}
    async with workflows(brew.stack) as client:
        started = await client.post(f"{WORKFLOW}/start", params={"instanceID": instance_id(ref)}, json=argument)
    assert started.status_code == 202, started.text


async def _ended_workflow(brew: Brewery, order_id: str) -> bool:
    async with workflows(brew.stack) as client:
        answer = await client.get(instance_id(OrderRef(tenant="default", id=order_id)))
    assert answer.status_code == 200, answer.text
    return answer.json()["runtimeStatus"] == "COMPLETED"
