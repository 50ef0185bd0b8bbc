"""What notification tells of messages about orders, as an order and its timeline show it."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from chassis.ids import new_id

Body = Callable[..., dict[str, Any]]
Tell = Callable[..., Awaitable[dict[str, str]]]
ORDERS, ROUTE = "/api/v1/orders", "/events/notifications"
SUCCESS = {"status": "SUCCESS"}
AT, LATER = "2126-11-28T09:00:00Z", "2126-11-28T09:00:05Z"
SENT, DELIVERED, FAILED = ("sent", 1), ("delivered", 2), ("failed", 2)


@pytest.fixture
async def order_id(client: httpx.AsyncClient, wanted: Body) -> str:
    return (await client.post(ORDERS, json=wanted())).json()["id"]


@pytest.fixture
def tell(client: httpx.AsyncClient, order_id: str) -> Tell:
    """An event as the sidecar delivers it; what it is answered."""

    async def deliver(
        message: str, word: tuple[str, int], *, at: str = AT, tenant: str = "default", **data: Any
    ) -> dict[str, str]:
        kind, version = word
        told = {"notificationId": message, "subjectId": order_id, "version": version, "status": kind} | data
        event = {"id": new_id(), "source": "notification-service", "type": f"notification.{kind}.v1", "time": at}
        headers = {"dapr-api-token": "app-token-of-the-tests"}
        answer = await client.post(ROUTE, json=event | {"tenantid": tenant, "data": told}, headers=headers)
        return answer.raise_for_status().json()

    return deliver


@pytest.fixture
def notified(client: httpx.AsyncClient, order_id: str) -> Callable[[], Awaitable[Any]]:
    """As the order shows it. The timeline has the same, or nothing of it."""

    async def look() -> Any:
        shown = (await client.get(f"{ORDERS}/{order_id}")).json()["notified"]
        timeline = (await client.get(f"{ORDERS}/{order_id}/timeline")).json()
        steps = [{"status": line["status"], "at": line["startedAt"]} for line in timeline if line["step"] == "notify"]
        assert steps == ([shown] if shown else [])
        return shown and (shown["status"], shown["at"])

    return look


async def test_an_order_shows_what_became_of_the_message_about_it(tell: Tell, notified: Any):
    message = new_id()
    assert await notified() is None

    assert await tell(message, SENT) == SUCCESS
    assert await notified() == ("sent", AT)

    assert await tell(message, DELIVERED, at=LATER) == SUCCESS
    assert await notified() == ("delivered", LATER)


async def test_that_a_customer_was_told_is_the_last_step_of_the_timeline(
    tell: Tell, client: httpx.AsyncClient, order_id: str
):
    await tell(new_id(), SENT)

    lines = (await client.get(f"{ORDERS}/{order_id}/timeline")).json()

    assert [line["step"] for line in lines] == ["place", "charge", "confirm", "notify"]
    assert (lines[-1]["phase"], lines[-1]["attempts"], lines[-1]["durationMs"]) == ("then", 1, None)


@pytest.mark.parametrize("last", [DELIVERED, FAILED])
async def test_an_older_word_about_the_same_message_changes_nothing(tell: Tell, notified: Any, last: tuple[str, int]):
    message = new_id()
    await tell(message, last, at=LATER)

    assert await tell(message, SENT) == SUCCESS

    assert await notified() == (last[0], LATER)


async def test_a_word_about_an_older_message_changes_nothing(tell: Tell, notified: Any):
    older, newer = new_id(), new_id()
    await tell(newer, SENT)

    await tell(older, FAILED, at=LATER)

    assert await notified() == ("sent", AT)


async def test_a_newer_message_counts_though_less_is_known_of_it(tell: Tell, notified: Any):
    older, newer = new_id(), new_id()
    await tell(older, DELIVERED)

    await tell(newer, SENT, at=LATER)

    assert await notified() == ("sent", LATER)


async def test_a_message_that_came_back_has_failed(tell: Tell, notified: Any):
    await tell(new_id(), FAILED, status="bounced")

    assert await notified() == ("failed", AT)


async def test_an_event_delivered_twice_changes_nothing_the_second_time(tell: Tell, notified: Any):
    message = new_id()
    assert await tell(message, SENT) == SUCCESS
    assert await tell(message, SENT, at=LATER) == SUCCESS

    assert await notified() == ("sent", AT)


async def test_another_tenants_event_changes_nothing(tell: Tell, notified: Any):
    assert await tell(new_id(), SENT, tenant="other") == SUCCESS

    assert await notified() is None


@pytest.mark.parametrize("subject", ["", "L-4711", "branch:B-1", "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01"])
async def test_messages_about_something_else_are_passed_over(tell: Tell, notified: Any, subject: str):
    assert await tell(new_id(), SENT, subjectId=subject) == SUCCESS

    assert await notified() is None


async def test_a_type_that_nobody_knows_yet_is_passed_over(tell: Tell, notified: Any):
    assert await tell("no id", ("opened", 3)) == SUCCESS

    assert await notified() is None


@pytest.mark.parametrize("wrong", [{"notificationId": "n-1"}, {"version": "much"}, {"subjectId": None}])
async def test_what_can_not_be_read_goes_to_the_dead_letters(tell: Tell, notified: Any, wrong: dict[str, Any]):
    assert (await tell(new_id(), SENT, **wrong))["status"] == "DROP"

    assert await notified() is None


async def test_nobody_but_the_sidecar_tells(client: httpx.AsyncClient):
    assert (await client.post(ROUTE, json={})).status_code == 401
