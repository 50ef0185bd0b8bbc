"""What an admin changes of products and stock, and orders as they happen: at every replica, and never sold twice."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import pytest
from brewery import ORDER, PUBLIC, Brewery, bearer, client_of, order_body, replicas

from chassis.ids import new_id
from stack.eventually import eventually
from stack.sidecars import Stack

CATALOG, PRODUCTS = "/api/v1/catalog", "/api/v1/catalog/products"


def product(**changed: Any) -> dict[str, Any]:
    price = {"amount": "4.20", "currency": "USD"}
    return {"name": "Flat white", "variations": [{"name": "regular", "price": price}]} | changed


@pytest.fixture
async def near(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A replica of order, as an admin of tenant `default` reaches it."""
    async with client_of(stack, replicas(stack, ORDER)[0], bearer(stack, "admin")) as client:
        yield client


@pytest.fixture
async def far(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Another one, where there is another one."""
    async with client_of(stack, replicas(stack, ORDER)[-1], bearer(stack, "admin")) as client:
        yield client


@pytest.fixture
async def sku(near: httpx.AsyncClient) -> str:
    """A new product, of which there are a hundred."""
    sku = f"p-{new_id()}"
    (await near.post(PRODUCTS, json=product(sku=sku, featured=True))).raise_for_status()
    stocked = await near.post(f"{PRODUCTS}/{sku}/stock", json={"delta": 100, "reason": "the first delivery"})
    assert stocked.raise_for_status().json()["balance"] == 100
    return sku


async def test_of_two_hundred_who_buy_the_last_hundred_at_once_a_hundred_do(
    brew: Brewery, near: httpx.AsyncClient, far: httpx.AsyncClient, sku: str
) -> None:
    async def buy(number: int) -> int:
        while True:  # at a 503 nothing was written: so many at once may find no connection to the database
            answer = await (near, far)[number % 2].post(
                PUBLIC, json=order_body(sku=sku), headers={"Prefer": "respond-async"}
            )
            if answer.status_code != 503:
                break
        if answer.status_code == 409:
            assert answer.json()["errorType"] == "out-of-stock"
        return answer.status_code

    answers = await asyncio.gather(*(buy(number) for number in range(200)))
    assert (answers.count(202), answers.count(409)) == (100, 100)
    assert brew.stock(sku) == 0

    def sold() -> bool:
        query = "SELECT status, count(*) AS n FROM orders WHERE items LIKE ? GROUP BY status"
        return [dict(row) for row in brew.rows(ORDER, query, f"%{sku}%")] == [{"status": "confirmed", "n": 100}]

    await eventually(sold, within=60, every=0.2)


async def test_what_an_admin_changes_holds_at_once_where_it_was_changed_and_soon_everywhere(
    near: httpx.AsyncClient, far: httpx.AsyncClient, sku: str
) -> None:
    async def shown(client: httpx.AsyncClient) -> dict[str, Any]:
        items = (await client.get(f"{CATALOG}/featured")).raise_for_status().json()["items"]
        return {item["sku"]: item for item in items}

    await eventually(lambda: _in(shown(far), sku))  # from here on it is at hand there
    dearer = product(version=1, featured=True, variations=[{"name": "regular", "price": {"amount": "5.10"}}])
    changed = (await near.put(f"{PRODUCTS}/{sku}", json=dearer)).raise_for_status().json()
    assert (await shown(near))[sku] == changed

    async def known_there() -> bool:
        return (await shown(far))[sku] == changed

    await eventually(known_there, within=2)
    placed = await far.post(PUBLIC, json=order_body(sku=sku))
    assert (placed.status_code, placed.json()["total"]["amount"]) == (201, "5.10")

    assert (await near.delete(f"{PRODUCTS}/{sku}")).status_code == 204

    async def gone_there() -> bool:
        return (await far.post(PUBLIC, json=order_body(sku=sku))).status_code == 422

    await eventually(gone_there, within=2)
    assert sku not in await shown(near)


async def _in(shown: Awaitable[dict[str, Any]], sku: str) -> bool:
    return sku in await shown


# --- live orders ---


@asynccontextmanager
async def live(client: httpx.AsyncClient, after: int | None = None) -> AsyncGenerator[Callable[[], Awaitable[Any]]]:
    """What gives the next event of the stream: (id, name, order's id); None when it has ended."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with client.stream("GET", f"{PUBLIC}/stream", headers=headers) as answer:
        assert answer.status_code == 200

        async def events() -> AsyncGenerator[tuple[int, str, str]]:
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if not line and "data" in fields:
                    yield int(fields["id"]), fields["event"], json.loads(fields["data"])["orderId"]
                    fields = {}
                elif not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value

        async with aclosing(events()) as told:
            yield lambda: asyncio.wait_for(anext(told, None), 30)


async def events_of(order_id: str, following: Callable[[], Awaitable[Any]], number: int) -> list[tuple[int, str]]:
    """The next so many events of one order: others may have orders too."""
    found: list[tuple[int, str]] = []
    while len(found) < number:
        position, name, told = await following()
        if told == order_id:
            found.append((position, name))
    return found


async def test_an_order_is_told_at_every_replica_as_it_happens_and_again_after_a_break(
    brew: Brewery, near: httpx.AsyncClient, far: httpx.AsyncClient
) -> None:
    before = brew.rows(ORDER, "SELECT max(position) AS n FROM changes")[0]["n"]
    async with live(far, before) as following:
        order_id = (await near.post(PUBLIC, json=order_body())).json()["id"]
        first = await events_of(order_id, following, 2)
    assert [name for _, name in first] == ["order.pending_payment", "order.confirmed"]

    await far.post(f"{PUBLIC}/{order_id}/status", json={"status": "preparation"})
    async with live(near, first[0][0]) as following:
        again = await events_of(order_id, following, 2)
        await far.post(f"{PUBLIC}/{order_id}/status", json={"status": "ready"})
        again += await events_of(order_id, following, 1)
    assert again[0] == first[1]
    assert [name for _, name in again] == ["order.confirmed", "order.preparation", "order.ready"]


@pytest.mark.only_on("postgresql")
async def test_a_reader_whose_replica_dies_goes_on_at_another(
    brew: Brewery, near: httpx.AsyncClient, far: httpx.AsyncClient
) -> None:
    before = brew.rows(ORDER, "SELECT max(position) AS n FROM changes")[0]["n"]
    async with live(far, before) as following:
        order_id = (await near.post(PUBLIC, json=order_body())).json()["id"]
        told = await events_of(order_id, following, 1)
        brew.stack.kill_app(replicas(brew.stack, ORDER)[-1])
        with pytest.raises(httpx.RemoteProtocolError):
            await events_of(order_id, following, 9)
    async with live(near, told[0][0]) as following:
        told += await events_of(order_id, following, 1)
    assert [name for _, name in told] == ["order.pending_payment", "order.confirmed"]
