"""The breaker between order and payment opens and closes as declared, and for nothing else."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest
from brewery import ORDER, PAYMENT, PUBLIC, Brewery, bearer, client_of, order_body

from stack.eventually import eventually
from stack.sidecars import Stack

pytestmark = pytest.mark.only_on("postgresql")


async def test_a_burst_of_declines_opens_nothing(brew: Brewery) -> None:
    declined = await asyncio.gather(*(brew.place(token="tok_declined") for _ in range(12)))
    assert {answer.status_code for answer in declined} == {402}
    assert (await brew.place()).status_code == 201


async def test_a_burst_of_clients_hanging_up_opens_nothing(brew: Brewery) -> None:
    await brew.fault("payment-a", mode="ok", delayMs=600)

    token = bearer(brew.stack, "user")

    async def hang_up() -> None:
        async with client_of(brew.stack, ORDER, token, timeout=0.3) as impatient:
            with suppress(httpx.ReadTimeout):
                await impatient.post(PUBLIC, json=order_body(id="impatient"))

    await asyncio.gather(*(hang_up() for _ in range(8)))
    await brew.fair()
    assert (await brew.place()).status_code == 201
    left = (await brew.api.get(PUBLIC, params={"customerId": "impatient"})).json()["items"]
    for order in left:  # whoever hung up has his order all the same
        await brew.becomes(order["id"], status="confirmed")
    assert len(left) == 8


async def test_three_failures_open_it_and_it_closes_by_itself(brew: Brewery) -> None:
    brew.kill(PAYMENT)
    await eventually(lambda: is_open(brew.stack))
    async with client_of(brew.stack, ORDER, bearer(brew.stack, "staff")) as staff:
        told = (await staff.get("/api/v1/ops")).json()["sidecar"]
    assert {"target": PAYMENT, "state": "open"} in told["breakers"]
    brew.start(PAYMENT)
    await eventually(lambda: lets_through(brew.stack), every=0.2)
    assert (await brew.place()).status_code == 201


async def _invoke(stack: Stack) -> tuple[httpx.Response, float]:
    """A settlement of nothing through order's own sidecar, and its seconds: it charges nobody."""
    body: dict[str, Any] = {"key": "breaker", "orderId": "breaker", "amount": "1.00", "currency": "USD"}
    body |= {"paymentMethod": "credit_card", "settleOnly": True}
    url = f"{stack.sidecar_url(ORDER)}/v1.0/invoke/{PAYMENT}/method/process-payment"
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        began = time.perf_counter()
        headers = {"X-Tenant-Id": "default", "dapr-api-token": stack.dapr_token}
        answer = await client.post(url, json=body, headers=headers)
        return answer, time.perf_counter() - began


async def is_open(stack: Stack) -> bool:
    """An open breaker asks nobody: not even the first of the retries, which would take longer."""
    answer, took = await _invoke(stack)
    return "circuit breaker is open" in answer.text and took < 0.25


async def lets_through(stack: Stack) -> bool:
    return (await _invoke(stack))[0].status_code == 200
