"""Many charges in bad weather, with deaths among them: the providers' ledger and our records agree to the cent."""

import asyncio
import csv
import io
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from brewery import ORDER, PAYMENT, Brewery, bearer, client_of, replicas
from conftest import ROUTES

from chassis.ids import new_id
from stack.eventually import eventually

AT_ONCE = 24
MANY = pytest.param(2000, marks=[pytest.mark.chaos, pytest.mark.only_on("postgresql"), pytest.mark.timeout(560)])
WEATHER = [
    {"mode": "error", "status": 503, "rate": 0.2},
    {"mode": "lost-reply", "rate": 0.1},
    {"mode": "timeout", "rate": 0.05},
]
FINAL = {"succeeded", "declined", "failed"}


class Till:
    """Charges as order does: under a key, through its sidecar, again while there was no answer that can be read."""

    def __init__(self, brew: Brewery, client: httpx.AsyncClient, *, run: str, count: int) -> None:
        self._brew, self._client, self.run, self.count = brew, client, run, count
        self.answers: dict[str, dict[str, Any]] = {}
        self._url = f"{brew.stack.sidecar_url(ORDER)}/v1.0/invoke/{PAYMENT}/method/process-payment"
        self._headers = {"X-Tenant-Id": "default", "dapr-api-token": brew.stack.dapr_token}

    async def charge(self, number: int) -> None:
        order_id = f"{self.run}-{number}"
        body = {"key": f"{order_id}:charge", "orderId": order_id, "amount": f"{1 + number % 50}.{number % 100:02}"}
        body |= {"currency": "EUR", "paymentMethod": "credit_card", "cardToken": "tok_ok"}
        while True:
            try:
                answer = await self._client.post(self._url, json=body, headers=self._headers)
            except httpx.HTTPError:
                answer = None
            if answer is not None and (told := _told(answer)) is not None:
                self.answers[order_id] = told
                return
            await asyncio.sleep(0.5)  # no time-out of ours: the pause between two tries

    async def charge_all(self) -> None:
        waiting = iter(range(self.count))

        async def one_after_another() -> None:
            for number in waiting:
                await self.charge(number)

        await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))


def _told(answer: httpx.Response) -> dict[str, Any] | None:
    """What payment says, None where it says nothing: our sidecar answers 200 with an empty or a cut body when payment's
    is killed in the middle of an answer. To order that is no answer, and it asks again."""
    try:
        return answer.json() if answer.status_code == 200 else None
    except ValueError:
        return None


async def die(brew: Brewery, till: Till) -> None:
    """Each time another replica and its sidecar, while charges are under way; and they come back."""
    names = replicas(brew.stack, PAYMENT)
    deaths = 5 if till.count > 100 else 2
    for death in range(deaths):
        await eventually(lambda done=death: len(till.answers) > (done + 1) * till.count // (deaths + 2), within=200)
        name = names[death % len(names)]
        brew.stack.kill_app(name)
        brew.stack.kill_sidecar(name)
        await asyncio.to_thread(brew.stack.start_sidecar, name)
        await asyncio.to_thread(brew.stack.start_app, name)


@pytest.mark.parametrize("count", [100, MANY])
async def test_charges_in_bad_weather_agree_to_the_cent(brew: Brewery, count: int) -> None:
    run = new_id()
    for provider in await brew.payment_providers():
        (await brew.sandbox.put(f"/sandbox/faults/{provider}", json=WEATHER)).raise_for_status()
    async with httpx.AsyncClient(timeout=30, trust_env=False, limits=httpx.Limits(max_connections=AT_ONCE)) as client:
        till = Till(brew, client, run=run, count=count)
        await asyncio.gather(till.charge_all(), die(brew, till))
    await brew.fair()

    def rows() -> list[Any]:
        query = "SELECT id, order_id, status, amount, provider FROM payments WHERE order_id LIKE ?"
        return list(brew.rows(PAYMENT, query, f"{run}-%"))

    def all_known() -> bool:
        assert [row["order_id"] for row in rows() if row["status"] == "processing"] == []
        return True

    await eventually(all_known, within=200, every=1)
    recorded = {row["order_id"]: row for row in rows()}
    ledger = [entry for entry in await brew.listed("ledger") if str(entry["orderId"]).startswith(run)]

    assert len(recorded) == count
    assert max(Counter(one["orderId"] for one in ledger).values()) == 1, "somebody was charged twice"
    captured = {order_id: row for order_id, row in recorded.items() if row["status"] == "succeeded"}
    assert {one["orderId"] for one in ledger} == set(captured)
    for one in ledger:
        row = captured[one["orderId"]]
        assert (one["provider"], Decimal(one["amount"]) * 100) == (row["provider"], row["amount"])
    assert {entry["provider"] for entry in ledger} == set(ROUTES[0]["weights"])
    assert len(captured) == count, "nobody refused anything, so everybody is charged in the end"
    for order_id, answer in till.answers.items():  # what was told once as final stays so
        assert answer["status"] in {"processing", recorded[order_id]["status"]}

    await _settlement_equals(brew, ledger, run)


async def _settlement_equals(brew: Brewery, ledger: list[dict[str, Any]], run: str) -> None:
    days = {datetime.fromisoformat(one["at"]).astimezone(UTC).date() for one in ledger} | {datetime.now(UTC).date()}
    lines: list[dict[str, str]] = []
    async with client_of(brew.stack, PAYMENT, bearer(brew.stack, "admin")) as client:
        for day in sorted(days):
            report = await client.get(f"/api/v1/settlements/{day.isoformat()}")
            assert report.status_code == 200, report.text
            lines += [line for line in csv.DictReader(io.StringIO(report.text)) if line["orderId"].startswith(run)]
    names = ("provider", "kind", "orderId", "idempotencyKey", "currency")

    def told(entries: list[dict[str, Any]]) -> list[Any]:
        return sorted((*(entry[name] for name in names), Decimal(entry["amount"])) for entry in entries)

    assert told(lines) == told(ledger)


async def test_replicas_given_one_key_at_the_same_moment_make_one_charge(brew: Brewery) -> None:
    names, run = replicas(brew.stack, PAYMENT), new_id()
    headers = {"X-Tenant-Id": "default", "dapr-api-token": brew.stack.app_token}

    async def charge(client: httpx.AsyncClient, number: int) -> dict[str, Any]:
        body = {"key": f"{run}-{number}:charge", "orderId": f"{run}-{number}", "amount": "9.00", "currency": "USD"}
        answer = await client.post("/process-payment", json=body | {"paymentMethod": "card", "cardToken": "tok_ok"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    clients = [client_of(brew.stack, name, headers) for name in names * 2]
    for number in range(20):
        answers = await asyncio.gather(*(charge(client, number) for client in clients))
        assert len({(one["paymentId"], one["status"], one["transactionId"]) for one in answers}) == 1
        assert await brew.ledger(f"{run}-{number}") == ["charge"]
    for client in clients:
        await client.aclose()


async def test_partial_refunds_at_every_replica_never_give_back_more_than_was_captured(brew: Brewery) -> None:
    order = (await brew.place()).json()
    paid, total = order["payment"]["id"], Decimal(order["total"]["amount"])
    admin = bearer(brew.stack, "admin")
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(client_of(brew.stack, name, admin))
            for name in replicas(brew.stack, PAYMENT) * 3
        ]

        async def refund(client: httpx.AsyncClient, key: str) -> httpx.Response:
            path, body = f"/api/v1/payments/{paid}/refunds", {"amount": "1.50"}
            return await client.post(path, json=body, headers={"Idempotency-Key": key})

        answers = await asyncio.gather(*(refund(client, new_id()) for client in clients))
        refused = [one for one in answers if one.status_code == 409]
        given = len(answers) - len(refused)
        assert {one.json()["errorType"] for one in refused} <= {"refund-exceeds-captured"}
        assert given == min(len(clients), int(total / Decimal("1.50")))

        async def refunded() -> bool:
            view = (await clients[0].get(f"/api/v1/payments/{paid}")).json()
            assert Decimal(view["refunded"]["amount"]) == given * Decimal("1.50")
            assert await brew.ledger(order["id"]) == ["charge"] + ["refund"] * given
            return True

        await eventually(refunded, within=40)
        # One key at every replica at once is one refund, whoever is told to come again.
        key = new_id()
        told = await asyncio.gather(*(refund(client, key) for client in clients))
        assert {one.status_code for one in told} <= {201, 202, 409}
        assert len(await brew.ledger(order["id"])) <= 2 + given


async def test_an_admin_and_order_giving_back_at_once_give_back_exactly_the_charge(brew: Brewery) -> None:
    """Order asks every replica for the whole under its one key, while an admin gives back parts at every replica."""
    order = (await brew.place(quantity=3)).json()
    paid, total = order["payment"]["id"], order["total"]["amount"]
    inside = {"X-Tenant-Id": "default", "dapr-api-token": brew.stack.app_token}
    admin, names = bearer(brew.stack, "admin"), replicas(brew.stack, PAYMENT)
    wanted = {"key": f"{order['id']}:refund", "paymentId": paid, "amount": total}

    async def as_order(name: str) -> str:
        async with client_of(brew.stack, name, inside) as client:
            answer = await client.post("/refund-payment", json=wanted)
            assert answer.status_code == 200, answer.text
            return answer.json()["status"]

    async def as_admin(name: str) -> None:
        async with client_of(brew.stack, name, admin | {"Idempotency-Key": new_id()}) as client:
            answer = await client.post(f"/api/v1/payments/{paid}/refunds", json={"amount": "2.50"})
            assert answer.status_code in {201, 202, 409}, answer.text

    async def through() -> bool:
        return {await as_order(name) for name in names} == {"succeeded"}

    await asyncio.gather(*(one(name) for name in names * 2 for one in (as_admin, as_order)))
    await eventually(through, within=40)
    ledger = await brew.listed("ledger", orderId=order["id"])
    given = [entry for entry in ledger if entry["kind"] == "refund"]
    assert sum(Decimal(entry["amount"]) for entry in given) == Decimal(total)
    assert brew.payment_status(order["id"]) == "refunded"


async def test_a_refund_that_was_refused_for_good_is_given_back_when_a_person_has_it_tried_again(brew: Brewery) -> None:
    order_id = (await brew.place()).json()["id"]
    refused_for_good(brew, order_id)
    async with client_of(brew.stack, ORDER, bearer(brew.stack, "admin", sub="boss")) as admin:
        waiting = (await admin.get("/api/v1/sagas", params={"status": "compensation_failed"})).json()["items"]
        assert order_id in [saga["id"] for saga in waiting]
        retries = await asyncio.gather(*(admin.post(f"/api/v1/sagas/{order_id}/retry") for _ in range(4)))
        assert sorted(one.status_code for one in retries) == [202, 409, 409, 409]
        await brew.becomes(order_id, status="cancelled", payment="refunded")
        saga = (await admin.get(f"/api/v1/sagas/{order_id}")).json()
    assert saga["status"] == "completed"
    assert [(one["step"], one["retriedBy"]) for one in saga["incidents"]] == [("refund", "boss")]
    assert await brew.ledger(order_id) == ["charge", "refund"]


def refused_for_good(brew: Brewery, order_id: str) -> None:
    """As order itself leaves it after half an hour of refusals."""
    owed = "UPDATE orders SET status = 'cancelled', payment_status = 'refund_pending' WHERE id = ?"
    incident = (
        "INSERT INTO incidents (tenant, saga_id, step, at, error, stops)"
        " VALUES ('default', ?, 'refund', CURRENT_TIMESTAMP, 'refund failed', TRUE)"
    )
    brew.write(ORDER, owed, order_id)
    brew.write(ORDER, incident, order_id)
