"""The sagas of orders as staff sees them, and the one whose compensation failed: it waits for a person."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from chassis.db import Database
from chassis.ids import new_id, now
from chassis.saga import Incident
from order.domain import OrderOfOtherTenant, SagaNotFailed, SagaNotFound
from order.saga import Approved, OrderRef, refund
from order.saga_records import Sagas, SagaStatus
from order.saga_store import Stores
from order.system import SystemStore
from stack.issuer import Issuer

PAID = Approved(payment_id="p-1", transaction_id="tx-1")
Placed = Callable[..., Awaitable[OrderRef]]


def refused(after: int = 0) -> Incident:
    return Incident(step=refund(PAID), error="refund failed", at=now() + timedelta(seconds=after))


@pytest.fixture
def sagas(db: Database) -> Sagas:
    return Sagas(db, "default")


@pytest.fixture
async def stopped(placed: Placed, stores: Stores) -> OrderRef:
    """An order that was paid and cancelled, and whose refund was refused for good."""
    ref = await placed()
    store = stores.of("default")
    await store.confirm(ref, PAID, list)
    await store.cancel(ref.id)
    await store.stop(ref.id, refused())
    return ref


async def of_status(sagas: Sagas, status: SagaStatus | None = None) -> list[tuple[str, str]]:
    return [(saga.id, saga.status) for saga in await sagas.page(status=status, before=None, limit=10)]


async def test_every_saga_is_listed_by_where_it_stands(sagas: Sagas, stopped: OrderRef, placed: Placed, stores: Stores):
    done, running = await placed(), await placed()
    await stores.of("default").confirm(done, PAID, list)

    stands = {
        SagaStatus.RUNNING: running.id,
        SagaStatus.COMPLETED: done.id,
        SagaStatus.COMPENSATION_FAILED: stopped.id,
    }
    for status, saga_id in stands.items():
        assert await of_status(sagas, status) == [(saga_id, status)]
    assert {saga_id for saga_id, _ in await of_status(sagas)} == set(stands.values())
    assert [saga.id for saga in await sagas.page(status=None, before=running.id, limit=1)] == [done.id]


async def test_one_whose_compensation_failed_is_nobodys_until_a_person_has_it_tried_again(
    sagas: Sagas, stopped: OrderRef, db: Database
):
    assert await SystemStore(db).due(10) == [], "the sweep leaves it alone"

    taken_up = await sagas.take_up(stopped.id, by="boss")

    assert (taken_up.tenant, taken_up.id) == ("default", stopped.id)
    [incident] = (view := await sagas.get(stopped.id)).incidents
    assert (incident.step, incident.error, incident.retried_by) == ("refund", "refund failed", "boss")
    assert incident.retried_at is not None
    assert view.status is SagaStatus.RUNNING
    assert [ref.id for ref in await SystemStore(db).due(10)] == [stopped.id], "and drives it if whoever asked dies"
    with pytest.raises(SagaNotFailed):
        await sagas.take_up(stopped.id, by="another")


async def test_an_incident_told_twice_is_one_and_stops_nothing_that_was_taken_up_since(
    sagas: Sagas, stores: Stores, placed: Placed
):
    ref, incident = await placed(), refused()
    await stores.of("default").confirm(ref, PAID, list)
    await stores.of("default").cancel(ref.id)
    await stores.of("default").stop(ref.id, incident)
    await sagas.take_up(ref.id, by="boss")

    await stores.of("default").stop(ref.id, incident)

    assert (await sagas.get(ref.id)).status is SagaStatus.RUNNING
    await stores.of("default").stop(ref.id, refused(after=1))
    assert [one.retried_by for one in (await sagas.get(ref.id)).incidents] == ["boss", None]


@pytest.mark.parametrize("ask", [lambda sagas, ref: sagas.get(ref), lambda sagas, ref: sagas.take_up(ref, by="x")])
async def test_another_tenants_saga_is_refused_and_one_that_is_not_there_is_not_found(
    db: Database, stopped: OrderRef, ask: Callable[[Sagas, str], Awaitable[Any]]
):
    with pytest.raises(OrderOfOtherTenant):
        await ask(Sagas(db, "acme"), stopped.id)
    with pytest.raises(SagaNotFound):
        await ask(Sagas(db, "acme"), new_id())


async def test_over_http_a_page_one_saga_and_its_retry(
    client: httpx.AsyncClient, wanted: Callable[..., dict[str, Any]], issuer: Issuer
):
    order_id = (await client.post("/api/v1/orders", json=wanted())).json()["id"]
    admin = issuer.bearer("admin", sub="boss")

    page = (await client.get("/api/v1/sagas", params={"status": "completed", "limit": 1})).json()
    saga = (await client.get(f"/api/v1/sagas/{order_id}")).json()
    retried = await client.post(f"/api/v1/sagas/{order_id}/retry", headers=admin)

    assert ([one["id"] for one in page["items"]], page["next"]) == ([order_id], None)
    assert (saga["workflow"], saga["status"], saga["incidents"]) == ("fulfil_order", "completed", [])
    assert [step["step"] for step in saga["steps"]] == ["place", "charge", "confirm"]
    assert (retried.status_code, retried.json()["errorType"]) == (409, "saga-not-failed")
    assert retried.json()["current"] == "completed"
    assert (await client.post(f"/api/v1/sagas/{order_id}/retry")).status_code == 403
    assert (await client.get("/api/v1/sagas/nothing")).json()["errorType"] == "saga-not-found"
    assert (await client.get("/api/v1/sagas?status=asleep")).status_code == 422
