"""One person's orders: told as a whole to whoever may ask, and erased with what was told of them; the money stays."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from order import tables

Body = Callable[..., dict[str, Any]]
Rows = Callable[[str], list[Any]]
ORDERS, EVENTS, PERSON = "/api/v1/orders", "/events/customers", "/person-data"
BY_SIDECAR = {"dapr-api-token": "app-token-of-the-tests"}
# An id of ours may have `c-1` within, as in `…-a0fc-1fdd…`.
PERSONAL = re.compile(r"c-1(?![0-9a-f])|Ada|ada@example\.com|\+12025550123")


def erased(at: datetime, person: str = "c-1") -> dict[str, Any]:
    data = {"version": 1, "customerId": person, "erasedAt": at.isoformat()}
    head = {"specversion": "1.0", "id": "e-1", "source": "notification-service", "type": "customer.erased.v1"}
    return head | {"tenantid": "default", "data": data}


async def hear(client: httpx.AsyncClient, event: dict[str, Any]) -> None:
    answer = await client.post(EVENTS, json=event, headers=BY_SIDECAR)
    assert answer.json() == {"status": "SUCCESS"}


async def asked(client: httpx.AsyncClient, person: str, tenant: str = "default") -> list[dict[str, Any]]:
    answer = await client.post(PERSON, json={"personId": person}, headers=BY_SIDECAR | {"X-Tenant-Id": tenant})
    assert answer.status_code == 200
    return answer.json()["held"]["orders"]


@pytest.fixture
def everything(rows: Rows) -> Callable[[], str]:
    """Every row of every table."""
    queries = [f"SELECT * FROM {table}" for table in tables.metadata.tables]  # noqa: S608  our own names
    return lambda: "\n".join(str(row) for query in queries for row in rows(query))


async def test_a_persons_orders_are_told_to_the_sidecar_alone(client: httpx.AsyncClient, wanted: Body):
    placed = (await client.post(ORDERS, json=wanted())).json()

    [told] = await asked(client, placed["customer"]["id"])
    assert (told["id"], told["customer"]["email"], told["total"]) == (placed["id"], "ada@example.com", "4.00")
    assert "cardToken" not in told
    assert await asked(client, placed["customer"]["id"], tenant="other") == []
    assert (await client.post(PERSON, json={"personId": "c-1"})).status_code == 401


async def test_an_erased_person_is_in_no_row_and_the_money_is(
    client: httpx.AsyncClient, wanted: Body, everything: Callable[[], str]
):
    placed = (await client.post(ORDERS, json=wanted())).json()
    assert set(PERSONAL.findall(everything())) == {"c-1", "Ada", "ada@example.com", "+12025550123"}

    for _ in range(2):
        await hear(client, erased(datetime.now(UTC)))

    assert PERSONAL.findall(everything()) == []
    kept = (await client.get(f"{ORDERS}/{placed['id']}")).json()
    assert kept["customer"] == {"id": "erased", "name": "", "email": "", "phone": "", "locale": "en"}
    assert {name: kept[name] for name in ("items", "total", "payment", "status", "createdAt")} == {
        name: placed[name] for name in ("items", "total", "payment", "status", "createdAt")
    }


async def test_a_later_order_of_theirs_and_others_stay(client: httpx.AsyncClient, wanted: Body, rows: Rows):
    await client.post(ORDERS, json=wanted())
    bodies = [wanted("tea"), wanted()]
    bodies[1]["customer"]["id"] = "c-10"
    for body in bodies[1:]:
        await client.post(ORDERS, json=body)

    await hear(client, erased(datetime.now(UTC) - timedelta(minutes=1)))
    await hear(client, erased(datetime.now(UTC), "nobody"))

    customers = {row.customer_id: orjson.loads(row.customer)["name"] for row in rows("SELECT * FROM orders")}
    assert customers == {"c-1": "Ada", "c-10": "Ada"}


async def test_whoever_placed_it_under_their_own_id_is_erased_too(
    client: httpx.AsyncClient, wanted: Body, rows: Rows, everything: Callable[[], str]
):
    await client.post(ORDERS, json=wanted())
    [before] = rows("SELECT owner FROM orders")

    await hear(client, erased(datetime.now(UTC), before.owner))

    [after] = rows("SELECT owner, customer_id FROM orders")
    assert (after.owner, after.customer_id) == ("erased", "c-1")
    assert f'"{before.owner}"' not in everything()


async def test_what_else_is_told_of_customers_is_for_others(client: httpx.AsyncClient):
    await hear(client, erased(datetime.now(UTC)) | {"type": "customer.changed.v1", "data": {"customerId": "c-1"}})
    poison = erased(datetime.now(UTC)) | {"data": {"customerId": "c-1"}}
    assert (await client.post(EVENTS, json=poison, headers=BY_SIDECAR)).json()["status"] == "DROP"
