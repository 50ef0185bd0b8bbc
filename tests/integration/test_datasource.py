"""INN8's data through real sidecars: to the next SMS, over a kill, and at the pace that INN8 asks for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from brewery import DATASOURCE, Brewery, Notices, bearer, client_of, new_phone

from chassis.ids import new_id
from stack.eventually import eventually
from stack.sidecars import Stack

SYNC = "/api/v1/sync"


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(stack, DATASOURCE, bearer(stack, "admin")) as client:
        yield client


async def sync(admin: httpx.AsyncClient, entity: str, mode: str = "incremental") -> dict[str, Any]:
    """A run to its end, once no other is under way."""

    async def ended() -> dict[str, Any]:
        answer = await admin.post(f"{SYNC}/{entity}", params={"mode": mode})
        assert answer.status_code in {200, 202}, answer.text
        location = answer.headers["location"]

        async def over() -> dict[str, Any] | None:
            log = (await admin.get(location)).json()
            return log if log["endTime"] else None

        return await eventually(over)

    return await eventually(ended, every=0.2)


async def test_a_phone_changed_at_inn8_is_the_phone_of_the_next_sms(
    brew: Brewery, notices: Notices, admin: httpx.AsyncClient
) -> None:
    customer, first, second = f"C-{new_id()[-12:]}", new_phone(), new_phone()

    async def changes(phone: str) -> None:
        members = {"fullName": "Grace", "phoneNumber": phone}
        (await brew.sandbox.put(f"/sandbox/inn8/clients/{customer}", json=members)).raise_for_status()
        assert (await sync(admin, "clients"))["status"] == "Success"

        async def known() -> bool:
            return (await notices.client.get(f"/api/v1/recipients/{customer}")).json().get("phone") == phone

        await eventually(known)
        await notices.becomes(await notices.send(customer, "sms"), "delivered")

    await changes(first)
    await changes(second)
    assert [len(await brew.texts(phone)) for phone in (first, second)] == [1, 1]


async def test_a_run_whose_process_was_killed_goes_on_where_it_was(brew: Brewery, admin: httpx.AsyncClient) -> None:
    await sync(admin, "transactions")
    await brew.fault("inn8", mode="ok", delayMs=300)
    with suppress(httpx.TransportError):
        starting = asyncio.create_task(admin.post(f"{SYNC}/transactions", params={"mode": "full"}))

        def newest() -> dict[str, Any]:
            query = "SELECT * FROM sync_logs WHERE entity = 'transactions' ORDER BY id DESC LIMIT 1"
            return dict(brew.rows(DATASOURCE, query)[0])

        killed = await eventually(lambda: row if (row := newest())["mode"] == "full" and row["cursor"] else None)
        brew.kill(DATASOURCE)
        assert killed["status"] == "InProgress"
        await brew.fair()
        await asyncio.to_thread(brew.start, DATASOURCE)

        row = await eventually(lambda: row if (row := newest())["status"] != "InProgress" else None)
        assert (row["id"], row["status"], row["unchanged"], row["deleted"]) == (killed["id"], "Success", 300, 0)
        await starting


@pytest.mark.only_on("sqlite")
async def test_the_pace_that_inn8_asks_for_is_heard_through_the_sidecar(
    brew: Brewery, admin: httpx.AsyncClient
) -> None:
    await sync(admin, "transactions")
    limit = {"calls": 3, "seconds": 1}
    (await brew.sandbox.put("/sandbox/inn8", json={"limit": limit})).raise_for_status()
    before = brew.stack.logs(DATASOURCE).count("source.busy")

    assert (await sync(admin, "transactions", "full"))["status"] == "Success"

    (await brew.sandbox.put("/sandbox/inn8", json={})).raise_for_status()
    said = [line for line in brew.stack.logs(DATASOURCE).splitlines() if "source.busy" in line][before:]
    assert said
    assert all('"asked_for": true' in line or '"asked_for":true' in line for line in said)
