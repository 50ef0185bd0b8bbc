"""Whose orders a caller sees and moves: a user's own, staff's tenant's, and never another tenant's."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.edge.auth import Access, Caller, Role
from chassis.ids import new_id, now
from chassis.saga import Incident
from chassis.story import Step
from order.access import RULES
from order.domain import Notice, Notified, NotYourOrder, OrderOfOtherTenant, Status
from order.requests import OrderRequest
from order.saga import Approved, Declined, OrderRef
from order.saga_store import SagaStore, Stores
from order.store import OrderStore
from stack.examples import examples
from stack.issuer import Issuer

Body = Callable[..., dict[str, Any]]
Rows = Callable[[str], list[Any]]
ORDERS = "/api/v1/orders"
ABSENT = "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01"


class As:
    """The client, as somebody else."""

    def __init__(self, client: httpx.AsyncClient, issuer: Issuer) -> None:
        self._client, self._issuer = client, issuer

    async def __call__(
        self, method: str, path: str, role: str = "user", *, sub: str = "u-1", tenant: str = "default", **more: Any
    ) -> httpx.Response:
        headers = self._issuer.bearer(role, sub=sub, tenant=tenant)
        return await self._client.request(method, path, headers=headers, **more)


@pytest.fixture
def ask(client: httpx.AsyncClient, issuer: Issuer) -> As:
    return As(client, issuer)


@pytest.fixture
async def mine(ask: As, wanted: Body) -> str:
    """The path of an order that user u-1 has placed."""
    placed = await ask("POST", ORDERS, json=wanted())
    assert placed.status_code == 201
    return placed.headers["location"]


def kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("errorType", "")


EACH = [("GET", ""), ("GET", "/timeline"), ("POST", "/cancel")]


@pytest.mark.parametrize(("method", "path"), EACH)
async def test_a_users_order_is_the_users_and_staffs(ask: As, mine: str, method: str, path: str):
    assert (await ask(method, mine + path)).status_code == 200
    assert (await ask(method, mine + path, "staff", sub="s-1")).status_code == 200
    assert (await ask(method, mine + path, "admin", sub="a-1")).status_code == 200


@pytest.mark.parametrize(("method", "path"), EACH)
async def test_another_user_is_told_that_it_is_not_his(ask: As, mine: str, method: str, path: str):
    answer = await ask(method, mine + path, sub="u-2")

    assert kind(answer) == (403, "not-owner")
    assert "staff" in answer.json()["detail"]
    assert (await ask("GET", mine)).json()["status"] == "confirmed"


@pytest.mark.parametrize("role", ["user", "staff", "admin"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        *((method, path, None) for method, path in EACH),
        ("POST", "/status", {"status": "preparation"}),
        ("POST", "/status", {"status": "nonsense"}),
        ("POST", "/ship", {"trackingNumber": "T-1"}),
    ],
)
async def test_another_tenants_order_is_refused_by_that_name(
    ask: As, mine: str, *, role: str, method: str, path: str, body: Any
):
    answer = await ask(method, mine + path, role, tenant="acme", json=body)

    if role == "user" and path in {"/status", "/ship"}:
        assert kind(answer) == (403, "role-missing")
    else:
        assert kind(answer) == (403, "different-tenant")
        assert answer.json()["title"] == answer.json()["detail"] == "Order belongs to different tenant"
    assert (await ask("GET", mine)).json()["status"] == "confirmed"


async def test_what_nobody_has_is_404_for_every_tenant(ask: As):
    for tenant in ("default", "acme"):
        for method, path in EACH:
            assert kind(await ask(method, f"{ORDERS}/{ABSENT}{path}", tenant=tenant)) == (404, "order-not-found")


async def test_only_staff_moves_an_order(ask: As, mine: str):
    refused = await ask("POST", mine + "/status", json={"status": "preparation"})
    assert kind(refused) == (403, "role-missing")
    assert "staff" in refused.json()["detail"]
    assert (await ask("POST", mine + "/status", "staff", json={"status": "preparation"})).status_code == 200


async def test_a_list_is_the_users_own_and_staffs_tenants(ask: As, mine: str, wanted: Body):
    theirs = (await ask("POST", ORDERS, sub="u-2", json=wanted())).headers["location"]
    foreign = (await ask("POST", ORDERS, tenant="acme", json=wanted())).headers["location"]

    async def listed(**who: Any) -> set[str]:
        return {f"{ORDERS}/{one['id']}" for one in (await ask("GET", ORDERS, **who)).json()["items"]}

    assert await listed() == {mine}
    assert await listed(sub="u-2") == {theirs}
    assert await listed(role="staff", sub="s-1") == {mine, theirs}
    assert await listed(tenant="acme") == {foreign}
    assert await listed(role="admin", tenant="nobody") == set()


async def test_the_tenant_is_never_taken_from_the_body_or_a_header(ask: As, wanted: Body, rows: Rows):
    refused = await ask("POST", ORDERS, json=wanted(tenantId="acme"))
    assert refused.status_code == 422

    headers = ask._issuer.bearer("user") | {"X-Tenant-Id": "acme"}
    await ask._client.post(ORDERS, json=wanted(), headers=headers)
    assert {row.tenant for row in rows("SELECT tenant FROM orders")} == {"default"}


async def test_the_same_key_of_two_tenants_and_of_two_callers_is_three_orders(
    ask: As, client: httpx.AsyncClient, wanted: Body
):
    placed: set[str] = set()
    for who in ({}, {"sub": "u-2"}, {"tenant": "acme"}):
        headers = ask._issuer.bearer("user", **who) | {"Idempotency-Key": "k-1"}
        answer = await client.post(ORDERS, json=wanted(), headers=headers)
        assert "idempotency-replayed" not in answer.headers
        placed.add(answer.json()["id"])
    assert len(placed) == 3


async def test_row_event_workflow_and_timeline_carry_the_tenant(ask: As, wanted: Body, rows: Rows):
    await ask("POST", ORDERS, tenant="acme", json=wanted())

    [order] = rows("SELECT * FROM orders")
    assert (order.tenant, order.tenant_name, order.owner) == ("acme", "Acme", "u-1")
    for table in ("timeline", "outbox", "stock"):
        assert {row.tenant for row in rows(f"SELECT tenant FROM {table}")} == {"acme"}  # noqa: S608


def test_every_rule_about_an_order_minds_whose_it_is():
    about_one = {route: access for route, access in RULES.items() if "{order_id}" in route or "{saga_id}" in route}

    assert set(about_one.values()) <= {Access.OWN, Access.STAFF, Access.ADMIN}


# --- by construction: every path of the store, for any two tenants and any history ---

PAID = Approved(payment_id="p-1", transaction_id="tx-1")
REFUSED = Declined(status="declined", payment_id="p-1")
SENT = Notified(status=Notice.SENT, at=now())
GIVEN_UP = Incident(step=Step(title="refund"), error="refused", at=now())


def caller(tenant: str, subject: str, *roles: Role) -> Caller:
    return Caller(tenant=tenant, tenant_name=tenant, subject=subject, roles=frozenset(roles or (Role.USER,)))


# Every method of the stores about one order that somebody else has placed: what the drivers do, and what requests do.
REQUESTS: dict[str, Callable[[OrderStore, OrderRef], Any]] = {
    "get": lambda store, ref: store.get(ref.id),
    "find": lambda store, ref: store.find(ref.id),
    "cancel": lambda store, ref: store.cancel(ref.id),
    "advance": lambda store, ref: store.advance(ref.id, Status.PREPARATION),
    "timeline": lambda store, ref: store.timeline(ref.id),
    "event_records": lambda store, ref: store.event_records(ref.id),
    "page": lambda store, _ref: store.page(status=None, customer_id=None, before=None, limit=100),
}
DRIVERS: dict[str, Callable[[SagaStore, OrderRef], Any]] = {
    "to_charge": lambda store, ref: store.to_charge(ref.id),
    "confirm": lambda store, ref: store.confirm(ref, PAID, list),
    "give_back": lambda store, ref: store.give_back(ref, REFUSED, list),
    "give_up": lambda store, ref: store.give_up(ref),
    "owe_refund": lambda store, ref: store.owe_refund(ref, PAID),
    "refunded": lambda store, ref: store.refunded(ref, list),
    "postpone": lambda store, ref: store.postpone(ref.id, timedelta(0)),
    "notified": lambda store, ref: store.notified(ref.id, SENT, message_id=new_id(), message_version=1),
    "stop": lambda store, ref: store.stop(ref.id, GIVEN_UP),
    "write_timeline": lambda store, ref: store.write_timeline(ref.id, []),
}


def test_no_path_of_the_store_is_left_out():
    def public(store: type) -> set[str]:
        return {name for name in vars(store) if not name.startswith("_")}

    assert public(OrderStore) == set(REQUESTS) | {"place"}
    assert public(SagaStore) == set(DRIVERS)


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@examples(3)
@given(
    tenants=st.lists(names, min_size=2, max_size=2, unique=True),
    before=st.sampled_from([None, DRIVERS["confirm"], REQUESTS["cancel"]]),
)
async def test_no_path_of_the_store_leads_into_another_tenant_or_to_another_user(
    tenants: list[str], before: Callable[[SagaStore, OrderRef], Any] | None, *, stores: Stores, wanted: Body, rows: Rows
):
    ours, others = tenants
    ref = OrderRef(tenant=ours, id=new_id())
    store = stores.of(ours)
    await store.place(ref.id, OrderRequest.model_validate(wanted()), owner="u-1")
    if before:
        await before(store, ref)

    async def nothing_comes_of(path: Callable[[Any, OrderRef], Any], intruder: OrderStore) -> None:
        held = everything(rows)
        try:
            seen = await path(intruder, ref)
        except (OrderOfOtherTenant, NotYourOrder):
            seen = None
        assert ref.id not in str(seen)
        assert everything(rows) == held

    for path in (*DRIVERS.values(), *REQUESTS.values()):
        await nothing_comes_of(path, stores.of(others))
    for path in REQUESTS.values():
        await nothing_comes_of(path, stores.visible_to(caller(others, "u-1")))
        await nothing_comes_of(path, stores.visible_to(caller(others, "u-1", Role.ADMIN)))
        await nothing_comes_of(path, stores.visible_to(caller(ours, "u-2")))
    if before is not REQUESTS["cancel"]:
        await store.cancel(ref.id)  # so that there is stock for the next example


def everything(rows: Rows) -> list[Any]:
    tables = ("orders", "timeline", "stock", "outbox", "incidents")
    return [rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]  # noqa: S608
