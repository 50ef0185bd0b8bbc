"""Live orders: one for every event of an order, to whoever may see it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from stack.event_stream import EventStream, listening
from stack.eventually import eventually
from stack.issuer import Issuer

ORDERS, STREAM = "/api/v1/orders", "/api/v1/orders/stream"
Body = Callable[..., dict[str, Any]]


@pytest.fixture
def reading(client: httpx.AsyncClient, issuer: Issuer) -> Callable[..., Any]:
    """A reader of live orders, by its token's claims; from the first one on, or it might miss one as it begins."""

    def read(role: str = "staff", *, after: int | None = 0, **claims: str) -> Any:
        headers = issuer.bearer(role, **claims) | ({} if after is None else {"Last-Event-ID": str(after)})
        return listening(client._transport.app, STREAM, headers)  # type: ignore[attr-defined]  # an ASGITransport's

    return read


@pytest.fixture
def place(client: httpx.AsyncClient, issuer: Issuer, wanted: Body) -> Callable[..., Any]:
    """The path of an order that a user has placed."""

    async def by(sub: str, **other: Any) -> str:
        answer = await client.post(ORDERS, json=wanted(**other), headers=issuer.bearer("user", sub=sub))
        return answer.headers["location"]

    return by


def told(stream: EventStream) -> list[tuple[str, int]]:
    return [(event.name, event.data["version"]) for event in stream.events]


async def test_every_event_of_an_order_is_told_once_and_in_order(client: httpx.AsyncClient, reading: Any, place: Any):
    async with reading() as stream:
        path = await place("u-1")
        for status in ("preparation", "ready"):
            await client.post(f"{path}/status", json={"status": status})
        events = await stream.at_least(4)
        await client.post(f"{path}/status", json={"status": "ready"})  # again: nothing has happened
        declined = await place("u-1", token="tok_declined")
        await stream.at_least(6)

    assert told(stream) == [
        ("order.pending_payment", 1),
        ("order.confirmed", 2),
        ("order.preparation", 3),
        ("order.ready", 4),
        ("order.pending_payment", 1),
        ("order.payment_failed", 2),
    ]
    assert events[0].data.keys() == {"orderId", "status", "version", "at"}
    assert [path.endswith(event.data["orderId"]) for event in events] == [True] * 4
    assert declined.endswith(stream.events[-1].data["orderId"])
    assert sorted({event.id for event in stream.events}) == [event.id for event in stream.events]


async def test_a_user_is_told_the_own_orders_and_staff_the_tenants(reading: Any, place: Any):
    # Of the last two owners the feed's key is the same.
    long = "u" * 200
    async with (
        reading("user", sub="u-1") as own,
        reading("admin", sub="a-1") as all_,
        reading(tenant="other") as elsewhere,
        reading("user", sub=f"{long}1") as long_one,
    ):
        for sub in ("u-2", "u-1", f"{long}2", f"{long}1"):
            await place(sub)
        await all_.at_least(8)
        await own.at_least(2)
        await long_one.at_least(2)
    placed = [event.data["orderId"] for event in all_.events if event.name == "order.confirmed"]
    assert {event.data["orderId"] for event in own.events} == {placed[1]}
    assert {event.data["orderId"] for event in long_one.events} == {placed[3]}
    assert elsewhere.events == []


@pytest.mark.parametrize("role", ["user", "staff"])
async def test_what_was_missed_is_told_first_and_only_to_whom_it_concerns(reading: Any, place: Any, role: str):
    async with reading() as stream:
        await place("u-1")
        last = (await stream.at_least(2))[-1].id
    await place("u-2")
    await place("u-1")

    async with reading(role, sub="u-1", after=last) as again:
        await again.at_least(2 if role == "user" else 4)
        await place("u-1")
        events = await again.at_least(4 if role == "user" else 6)
    assert len(events) == (4 if role == "user" else 6)
    assert all(event.id > last for event in events)


async def test_a_reader_that_has_heard_nothing_yet_knows_where_to_go_on(reading: Any, place: Any):
    """Its line breaks before the first event, or while that is on its way."""
    async with reading() as before:
        await place("u-1")
        last = (await before.at_least(2))[-1].id
    async with reading(after=None) as stream:
        begins = await eventually(lambda: stream.last_id)
        assert (begins, stream.events) == (last, [])
    await place("u-2")

    async with reading(after=begins) as again:
        events = await again.at_least(2)
    assert [event.name for event in events] == ["order.pending_payment", "order.confirmed"]


async def test_it_ends_when_the_service_leaves(client: httpx.AsyncClient, reading: Any):
    app: Any = client._transport.app  # type: ignore[attr-defined]  # an ASGITransport's
    async with reading() as stream:
        for leave in app.state.leaving:
            leave()
        await stream.ended()


async def test_an_order_that_is_refused_is_told_nowhere(client: httpx.AsyncClient, reading: Any, wanted: Body):
    async with reading() as stream:
        assert (await client.post(ORDERS, json=wanted("tea", 2))).status_code == 409
        assert (await client.post(ORDERS, json=wanted())).status_code == 201
        events = await stream.at_least(2)
    assert {event.data["orderId"] for event in events} == {events[0].data["orderId"]}


async def test_it_is_no_order(client: httpx.AsyncClient):
    answer = await client.get(STREAM, headers={"Last-Event-ID": "x"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"].lower()) == (422, "last-event-id")
