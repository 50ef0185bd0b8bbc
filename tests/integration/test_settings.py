"""Settings by real events, invocations and change feeds: on every replica of every service, and while the back office
is down."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from brewery import BACKOFFICE, ORDER, PUBLIC, SERVICES, Brewery, bearer, client_of, order_body, replicas

from chassis.ids import new_id
from stack.eventually import eventually
from stack.sidecars import Stack

SETTINGS, RECURRING = "/api/v1/settings", "/api/v1/recurring"
ASYNC, ROUTES, PAUSED = "Features:respond-async-default", "Routing:Payments", "Recurring:Retention:Paused"
TO_B = [{"weights": {"b": 1}}]
SOON = 2  # seconds, as it is promised


@pytest.fixture
async def everybody(stack: Stack) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Every replica of every service, as the operator's admin reaches it; the back office first."""
    admin = bearer(stack, "admin")
    async with AsyncExitStack() as opened:
        names = [name for app_id in sorted(SERVICES) for name in replicas(stack, app_id)]
        yield [await opened.enter_async_context(client_of(stack, name, admin)) for name in names]


async def put(office: httpx.AsyncClient, key: str, value: Any, **more: Any) -> None:
    (await office.put(f"{SETTINGS}/{key}", json={"value": value, **more})).raise_for_status()


def everywhere(clients: list[httpx.AsyncClient], *, paused: bool) -> Callable[[], Awaitable[bool]]:
    async def known() -> bool:
        found = [(await client.get(RECURRING)).raise_for_status().json()["items"] for client in clients]
        return all(item["paused"] is paused for items in found for item in items if item["name"] == "Retention")

    return known


async def test_what_the_operator_sets_every_replica_of_every_service_has_within_two_seconds(
    brew: Brewery, everybody: list[httpx.AsyncClient]
) -> None:
    stranger = bearer(brew.stack, "admin", tenant="acme")
    refused = await everybody[0].put(f"{SETTINGS}/{PAUSED}", json={"value": True}, headers=stranger)
    assert (refused.status_code, refused.json()["errorType"]) == (403, "operator-only")
    assert await everywhere(everybody, paused=False)()

    await put(everybody[0], PAUSED, True)
    await eventually(everywhere(everybody, paused=True), within=SOON, every=0.05)
    await put(everybody[0], PAUSED, True, isEnabled=False)
    await eventually(everywhere(everybody, paused=False), within=SOON, every=0.05)


async def test_a_route_of_payments_is_set_and_withdrawn(brew: Brewery, everybody: list[httpx.AsyncClient]) -> None:
    async def charged_by(provider: str) -> bool:
        """By every replica."""
        before = len(await brew.listed("ledger", orderId="canary"))
        assert await brew.every_payment_replica_charges()
        return {entry["provider"] for entry in (await brew.listed("ledger", orderId="canary"))[before:]} == {provider}

    try:
        await put(everybody[0], ROUTES, TO_B)
        await eventually(lambda: charged_by("b"), within=SOON, every=0.05)
    finally:
        await everybody[0].delete(f"{SETTINGS}/{ROUTES}")
    await eventually(lambda: charged_by("a"), within=SOON, every=0.05)


async def test_a_tenants_flag_serves_while_the_back_office_is_down_and_after_a_restart_too(
    brew: Brewery, everybody: list[httpx.AsyncClient]
) -> None:
    tenant = f"t-{new_id()}"
    admin = bearer(brew.stack, "admin", tenant=tenant)

    async def answers() -> set[int]:
        """Of every replica of order."""
        found: set[int] = set()
        for name in replicas(brew.stack, ORDER):
            async with client_of(brew.stack, name, admin) as client:
                found.add((await client.post(PUBLIC, json=order_body())).status_code)
        return found

    async def nobody_waits() -> bool:
        return await answers() == {202}

    assert await answers() == {201}
    (await everybody[0].put(f"{SETTINGS}/{ASYNC}", json={"value": True}, headers=admin)).raise_for_status()
    await eventually(nobody_waits, within=SOON, every=0.05)

    brew.kill(BACKOFFICE)
    assert await answers() == {202}
    brew.kill(ORDER)
    brew.start(ORDER)
    assert await answers() == {202}
