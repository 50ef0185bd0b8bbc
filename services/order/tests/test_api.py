"""The order API over HTTP, beside a sidecar that plays payment."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import orjson
import pytest
import structlog

from chassis.sidecar import Answer
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar

Body = Callable[..., dict[str, Any]]
Rows = Callable[[str], list[Any]]
Left = Callable[[str], int | None]
Announced = Callable[[str], list[tuple[str, int]]]
Running = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
ORDERS = "/api/v1/orders"
APP = {"dapr-api-token": "app-token-of-the-tests"}
REFUND = "payment-service/refund-payment"


class Gated(FakeSidecar):
    """Payment takes its time: until `gate` is opened."""

    def __init__(self, like: FakeSidecar) -> None:
        super().__init__(like.answers)
        self.alive = True
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def invoke(self, app_id: str, method: str, body: Any = None, **rest: Any) -> Answer:
        if method == "process-payment":
            self.asked.set()
            await self.gate.wait()
        return await super().invoke(app_id, method, body, **rest)


async def confirmed(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    answer = await client.post(ORDERS, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def test_a_paid_order_is_confirmed_where_it_can_be_found(
    client: httpx.AsyncClient, wanted: Body, left: Left, announced: Announced
):
    answer = await client.post(ORDERS, json=wanted("latte", 2))

    order = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{ORDERS}/{order['id']}"
    assert (await client.get(answer.headers["location"])).json() == order
    assert order["total"] == {"amount": "8.00", "currency": "USD"}
    assert order["payment"] == {"id": "p-1", "status": "succeeded", "transactionId": "tx-1"}
    assert (order["status"], order["tenantId"], order["version"]) == ("confirmed", "default", 2)
    assert left("latte") == 3
    assert announced(order["id"]) == [("created", 1), ("confirmed", 2)]


async def test_what_an_order_announces_is_published_at_once(
    client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar
):
    order_id = await confirmed(client, wanted())

    await eventually(lambda: len(sidecar.published) == 2, every=0.005)

    assert [event["type"] for event in sidecar.published] == ["order.created.v1", "order.confirmed.v1"]
    assert {event["subject"] for event in sidecar.published} == {order_id}
    assert "tok_ok" not in str(sidecar.published)


@pytest.mark.parametrize("token", ["tok_declined", "tok_failed"])
async def test_a_declined_card_is_402_and_releases_the_stock(
    client: httpx.AsyncClient, wanted: Body, left: Left, token: str
):
    answer = await client.post(ORDERS, json=wanted("tea", token=token))

    problem = answer.json()
    assert answer.status_code == 402
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["errorType"], problem["failedStep"]) == ("payment-declined", "charge")
    assert left("tea") == 1
    stored = (await client.get(f"{ORDERS}/{problem['orderId']}")).json()
    assert stored["status"] == "payment_failed"


DECLINES = {
    "insufficient_funds": ("insufficient_funds", "There is not enough money on the card."),
    "expired_card": ("expired_card", "The card has expired."),
    "stolen_card": ("card_declined", "The card was declined."),  # nobody's business but the bank's
    "No dice, pal <b>": ("card_declined", "The card was declined."),
}


async def test_a_decline_is_told_in_a_code_and_in_words_and_remembered(
    client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar, rows: Rows
):
    for said, (code, words) in DECLINES.items():
        no = {"status": "declined", "paymentId": "p-1", "transactionId": None, "errorMessage": said}
        sidecar.answers["payment-service/process-payment"] = Answer(status=200, data=no)
        first = await client.post(ORDERS, json=wanted(), headers={"Idempotency-Key": said})
        again = await client.post(ORDERS, json=wanted(), headers={"Idempotency-Key": said})

        for answer in (first, again):
            assert (answer.status_code, answer.json()["declineCode"]) == (402, code)
            assert answer.json()["detail"].startswith(words)
        data = orjson.loads(rows("SELECT data FROM outbox ORDER BY seq DESC LIMIT 1")[0].data)
        assert (data["declineCode"], data["reason"]) == (code, f"{words[0].lower()}{words[1:-1]}")


async def test_a_refusal_to_process_is_told_apart_from_a_decline(client: httpx.AsyncClient, wanted: Body):
    answer = await client.post(ORDERS, json=wanted(token="tok_failed"))

    assert (answer.status_code, answer.json()["declineCode"]) == (402, "not_processed")


async def test_a_failed_step_is_logged_with_its_order(client: httpx.AsyncClient, wanted: Body):
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with structlog.testing.capture_logs() as logs:
        answer = await client.post(ORDERS, json=wanted(token="tok_declined"))

    [line] = [line for line in logs if line["event"] == "order.payment_failed"]
    assert (line["order_id"], line["failed_step"]) == (answer.json()["orderId"], "charge")
    assert (line["decline_code"], line["log_level"]) == ("card_declined", "warning")


async def test_an_outcome_nobody_knows_is_202_and_goes_on_durably(
    client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar, left: Left
):
    answer = await client.post(ORDERS, json=wanted("tea", token="tok_unknown"))

    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["payment"]["status"]) == ("pending_payment", "processing")
    assert answer.headers["location"].endswith(answer.json()["id"])
    assert answer.headers["retry-after"] == "2"
    assert len(sidecar.workflows) == 1
    assert left("tea") == 0


async def test_one_who_does_not_want_to_wait_is_answered_202_and_the_order_is_confirmed_all_the_same(
    client: httpx.AsyncClient, wanted: Body
):
    answer = await client.post(ORDERS, json=wanted(), headers={"Prefer": "respond-async"})

    assert (answer.status_code, answer.json()["status"]) == (202, "pending_payment")

    async def is_confirmed() -> bool:
        return (await client.get(answer.headers["location"])).json()["status"] == "confirmed"

    await eventually(is_confirmed, every=0.005)


async def test_a_slow_payment_is_202_after_the_wait_and_confirmed_when_it_answers(
    running: Running, sidecar: FakeSidecar, wanted: Body
):
    slow = Gated(sidecar)
    async with running(slow, wait_seconds=0.01) as client:
        answer = await client.post(ORDERS, json=wanted())
        assert (answer.status_code, answer.json()["status"]) == (202, "pending_payment")
        slow.gate.set()

        async def is_confirmed() -> bool:
            return (await client.get(answer.headers["location"])).json()["status"] == "confirmed"

        await eventually(is_confirmed, every=0.005)


async def test_a_caller_who_hangs_up_stops_nothing(running: Running, sidecar: FakeSidecar, wanted: Body, rows: Rows):
    slow = Gated(sidecar)
    async with running(slow) as client:
        calling = asyncio.create_task(client.post(ORDERS, json=wanted()))
        await slow.asked.wait()
        calling.cancel()
        slow.gate.set()

        await eventually(lambda: rows("SELECT * FROM orders WHERE status = 'confirmed'"), every=0.005)
    assert len(slow.invoked) == 1


async def test_two_orders_for_the_last_item_are_one_201_and_one_409(
    client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar, left: Left
):
    answers = await asyncio.gather(*(client.post(ORDERS, json=wanted("tea")) for _ in range(2)))

    won, lost = sorted(answers, key=lambda answer: answer.status_code)
    assert (won.status_code, lost.status_code) == (201, 409)
    assert (lost.json()["errorType"], lost.json()["sku"]) == ("out-of-stock", "tea")
    assert left("tea") == 0
    assert len(sidecar.invoked) == 1


async def test_the_catalog_shows_prices_and_no_stock(client: httpx.AsyncClient):
    answer = await client.get("/api/v1/catalog")

    [latte, tea] = answer.json()["items"]
    assert answer.status_code == 200
    assert latte["variations"][1] == {"name": "vanilla", "price": {"amount": "4.50", "currency": "USD"}}
    assert (latte["featured"], tea["featured"]) == (True, False)
    assert set(latte) == {"sku", "name", "featured", "sortOrder", "version", "variations"}


async def test_the_list_is_paged_newest_first_without_gaps_or_repeats(client: httpx.AsyncClient, wanted: Body):
    made = [await confirmed(client, wanted()) for _ in range(5)]

    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    pages = 0
    while True:
        page = (await client.get(ORDERS, params=query)).json()
        seen += [order["id"] for order in page["items"]]
        pages += 1
        if page["next"] is None:
            break
        query["cursor"] = page["next"]

    assert seen == made[::-1]
    assert pages == 3


async def test_the_list_can_be_narrowed_to_a_status_and_a_customer(client: httpx.AsyncClient, wanted: Body):
    ours = await confirmed(client, wanted())
    theirs = await confirmed(client, wanted(customer={"id": "c-2", "name": "Bob", "email": "bob@example.com"}))
    await client.post(f"{ORDERS}/{theirs}/status", json={"status": "preparation"})

    async def listed(**query: str) -> list[str]:
        return [order["id"] for order in (await client.get(ORDERS, params=query)).json()["items"]]

    assert await listed(status="preparation") == [theirs]
    assert await listed(customerId="c-1") == [ours]
    assert await listed(status="ready") == []


async def test_the_timeline_tells_each_step_in_the_order_it_happened(client: httpx.AsyncClient, wanted: Body):
    order_id = await confirmed(client, wanted())

    lines = (await client.get(f"{ORDERS}/{order_id}/timeline")).json()

    assert [(line["step"], line["phase"], line["status"], line["attempts"]) for line in lines] == [
        ("place", "given", "completed", 1),
        ("charge", "when", "completed", 1),
        ("confirm", "then", "completed", 1),
    ]
    assert set(lines[0]) == {"step", "phase", "status", "attempts", "startedAt", "durationMs", "error"}


async def test_after_a_cancel_the_timeline_counts_the_charge_once(client: httpx.AsyncClient, wanted: Body):
    order_id = await confirmed(client, wanted())
    await client.post(f"{ORDERS}/{order_id}/cancel")

    lines = (await client.get(f"{ORDERS}/{order_id}/timeline")).json()

    assert {line["step"]: line["attempts"] for line in lines} == {
        "place": 1, "charge": 1, "confirm": 1, "cancel": 1, "refund": 1
    }  # fmt: skip


async def test_an_order_that_is_not_there_is_404(client: httpx.AsyncClient):
    gone = f"{ORDERS}/0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01"
    answers = [
        await client.get(gone),
        await client.get(f"{gone}/timeline"),
        await client.post(f"{gone}/status", json={"status": "preparation"}),
        await client.post(f"{gone}/ship", json={"trackingNumber": "1Z"}),
        await client.post(f"{gone}/cancel"),
    ]

    assert {(answer.status_code, answer.json()["errorType"]) for answer in answers} == {(404, "order-not-found")}


async def test_staff_moves_an_order_step_by_step(client: httpx.AsyncClient, wanted: Body):
    order_id = await confirmed(client, wanted())

    for status in ("preparation", "ready", "delivered"):
        answer = await client.post(f"{ORDERS}/{order_id}/status", json={"status": status})
        assert (answer.status_code, answer.json()["status"]) == (200, status)


async def test_every_move_that_is_not_the_next_one_is_409(client: httpx.AsyncClient, wanted: Body):
    order_id = await confirmed(client, wanted())

    for status in ("ready", "delivered", "shipped", "cancelled", "confirmed", "payment_failed", "eaten"):
        answer = await client.post(f"{ORDERS}/{order_id}/status", json={"status": status})
        assert (answer.status_code, answer.json()["errorType"]) == (409, "illegal-move")

    assert (await client.get(f"{ORDERS}/{order_id}")).json()["status"] == "confirmed"


async def test_a_delivery_is_shipped_with_its_tracking_number(client: httpx.AsyncClient, wanted: Body):
    order_id = await confirmed(client, wanted(location="delivery"))
    early = await client.post(f"{ORDERS}/{order_id}/ship", json={"trackingNumber": "1Z 999"})
    for status in ("preparation", "ready"):
        await client.post(f"{ORDERS}/{order_id}/status", json={"status": status})

    answer = await client.post(f"{ORDERS}/{order_id}/ship", json={"trackingNumber": "1Z 999"})

    assert early.status_code == 409
    assert (answer.status_code, answer.json()["status"], answer.json()["trackingNumber"]) == (200, "shipped", "1Z 999")


async def test_cancelling_a_paid_order_refunds_it_and_repeating_gives_the_same(
    client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar, left: Left
):
    order_id = await confirmed(client, wanted("latte", 2))

    first = await client.post(f"{ORDERS}/{order_id}/cancel")
    again = await client.post(f"{ORDERS}/{order_id}/cancel")

    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert (first.json()["status"], first.json()["payment"]["status"]) == ("cancelled", "refunded")
    assert [target for target, _ in sidecar.invoked].count(REFUND) == 1
    assert left("latte") == 5


async def test_a_cancel_is_202_while_money_is_owed_and_200_once_it_is_back(
    client: httpx.AsyncClient, wanted: Body, sidecar: FakeSidecar
):
    order_id = await confirmed(client, wanted())
    sidecar.answers[REFUND] = Answer(status=200, data={"status": "processing"})
    owed = await client.post(f"{ORDERS}/{order_id}/cancel")
    sidecar.answers[REFUND] = Answer(status=200, data={"status": "succeeded"})

    settled = await client.post(f"{ORDERS}/{order_id}/cancel")

    assert (owed.status_code, owed.json()["payment"]["status"]) == (202, "refund_pending")
    assert owed.headers["retry-after"] == "2"
    assert (settled.status_code, settled.json()["payment"]["status"]) == (200, "refunded")


async def test_a_cancel_before_the_outcome_settles_without_charging(
    running: Running, sidecar: FakeSidecar, wanted: Body
):
    slow = Gated(sidecar)
    async with running(slow, wait_seconds=0.01) as client:
        placed = await client.post(ORDERS, json=wanted("tea"), headers={"Prefer": "respond-async"})
        early = await client.post(f"{placed.headers['location']}/cancel")
        slow.gate.set()

        async def settled() -> bool:
            return (await client.post(f"{placed.headers['location']}/cancel")).status_code == 200

        await eventually(settled, every=0.005)
        order = (await client.get(placed.headers["location"])).json()

    assert (early.status_code, early.json()["payment"]["status"]) == (202, "processing")
    assert order["status"] == "cancelled"
    charged = any(body["cardToken"] for target, body in slow.invoked if target != REFUND)
    assert order["payment"]["status"] == ("refunded" if charged else "failed")


async def test_cancelling_once_preparation_has_begun_is_409(client: httpx.AsyncClient, wanted: Body):
    order_id = await confirmed(client, wanted())
    await client.post(f"{ORDERS}/{order_id}/status", json={"status": "preparation"})

    answer = await client.post(f"{ORDERS}/{order_id}/cancel")

    assert (answer.status_code, answer.json()["current"]) == (409, "preparation")


async def test_a_declined_order_can_not_be_cancelled(client: httpx.AsyncClient, wanted: Body):
    declined = await client.post(ORDERS, json=wanted(token="tok_declined"))

    answer = await client.post(f"{ORDERS}/{declined.json()['orderId']}/cancel")

    assert (answer.status_code, answer.json()["errorType"]) == (409, "illegal-move")


def told(value: Any, *, tenant: str = "default", version: int = 1) -> dict[str, Any]:
    """As the back office tells what is set."""
    key = "Features:respond-async-default"
    data = {"tenant": tenant, "key": key, "version": version, "value": value}
    return {"id": "e-1", "type": "setting.changed.v1", "source": "backoffice-service", "data": data}


async def test_a_tenant_may_have_it_that_nobody_waits_unless_asked_to(
    running: Running, sidecar: FakeSidecar, wanted: Body
):
    async with running(sidecar) as client:

        async def answers(**headers: str) -> int:
            return (await client.post(ORDERS, json=wanted(token="tok_declined"), headers=headers)).status_code

        async def nobody_waits() -> bool:
            return await answers() == 202

        await client.post("/events/settings", json=told(True, tenant="acme"), headers=APP)
        await client.post("/events/settings", json=told(False), headers=APP)
        assert [await answers(), await answers(prefer="wait=5"), await answers(prefer="respond-async")] == [
            402,
            402,
            202,
        ]

        await client.post("/events/settings", json=told(True, version=2), headers=APP)
        await eventually(nobody_waits, every=0.01)
        assert [await answers(prefer="wait=5"), await answers(prefer="respond-async, wait=5")] == [402, 202]
