"""What the integration tests do and see, in one place: orders, the outside world's records, and the databases."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from chassis.ids import new_id
from chassis.testing import eventually
from chassis.testing.stack import Stack

PUBLIC = "/api/v1/orders"
ORDER, PAYMENT, NOTIFICATION = "order-service", "payment-service", "notification-service"
SERVICES = (ORDER, PAYMENT, NOTIFICATION)


def order_body(*, sku: str = "latte", token: str = "tok_ok", quantity: int = 1, **customer: str) -> dict[str, Any]:
    known = {"id": "c-1", "name": "Ada", "email": "ada@example.com", "phone": "+12025550123", "locale": "en"}
    return {
        "customer": known | customer,
        "items": [{"sku": sku, "quantity": quantity}],
        "location": "take-away",
        "currency": "USD",
        "payment": {"method": "credit_card", "token": token},
    }


def bearer(stack: Stack, role: str, *, sub: str = "s-1", tenant: str = "default") -> dict[str, str]:
    """A token of the stack's own issuer, as the header that carries it."""
    asked = {"grant_type": "client_credentials", "client_id": sub, "client_secret": "any"}
    url = stack.url("sandbox") + "/oauth/token"
    answer = httpx.post(url, data=asked | {"role": role, "sub": sub, "tenant": tenant}, trust_env=False)
    return {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}


def client_of(
    stack: Stack, app_id: str, headers: dict[str, str] | None = None, *, timeout: float = 30
) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=stack.url(app_id), timeout=timeout, trust_env=False, headers=headers)


def replicas(stack: Stack, app_id: str) -> list[str]:
    """What the stack calls the replicas of an app."""
    return [name for name, spec in stack.apps.items() if spec.app_id == app_id]


class Brewery:
    """The running stack, as a test talks to it."""

    def __init__(self, stack: Stack, api: httpx.AsyncClient, sandbox: httpx.AsyncClient) -> None:
        self.stack, self.api, self.sandbox = stack, api, sandbox

    async def place(self, *, headers: dict[str, str] | None = None, **wanted: Any) -> httpx.Response:
        return await self.api.post(PUBLIC, json=order_body(**wanted), headers=headers)

    async def place_async(self, **wanted: Any) -> str:
        """An order whose outcome nobody waits for; its id."""
        answer = await self.place(headers={"Prefer": "respond-async"}, **wanted)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    async def order(self, order_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"{PUBLIC}/{order_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def timeline(self, order_id: str) -> dict[str, dict[str, Any]]:
        return {entry["step"]: entry for entry in (await self.api.get(f"{PUBLIC}/{order_id}/timeline")).json()}

    async def becomes(self, order_id: str, *, within: float = 30, payment: str | None = None, status: str) -> None:
        async def there() -> bool:
            seen = await self.order(order_id)
            assert (seen["status"], seen["payment"]["status"]) == (status, payment or seen["payment"]["status"])
            return True

        await eventually(there, within=within, every=0.2)

    async def fault(self, target: str, **fault: Any) -> None:
        (await self.sandbox.put(f"/sandbox/faults/{target}", json=fault)).raise_for_status()

    async def fair(self) -> None:
        (await self.sandbox.delete("/sandbox/faults")).raise_for_status()

    async def ledger(self, order_id: str) -> list[str]:
        """`charge` and `refund` entries of one order, in order."""
        entries = (await self.sandbox.get("/sandbox/ledger", params={"orderId": order_id})).json()
        return [entry["kind"] for entry in sorted(entries, key=lambda entry: entry["at"])]

    async def mails(self, order_id: str) -> list[str]:
        """Subjects of the distinct messages about one order: sending is at least once, under one Message-ID."""
        inbox = (await self.sandbox.get("/sandbox/inbox")).json()
        return list({mail["messageId"]: mail["subject"] for mail in inbox if order_id in mail["text"]}.values())

    async def mailed(self, order_id: str, *, within: float = 20) -> list[str]:
        return await eventually(lambda: self.mails(order_id), within=within, every=0.2)

    async def pushes(self, order_id: str) -> list[str]:
        pushed = (await self.sandbox.get("/sandbox/push")).json()
        return [push["status"] for push in pushed if push["orderId"] == order_id]

    # --- processes: an app is every replica of it ---

    def kill(self, app_id: str) -> None:
        for name in replicas(self.stack, app_id):
            self.stack.kill_app(name)

    def start(self, app_id: str) -> None:
        for name in replicas(self.stack, app_id):
            self.stack.start_app(name)

    def freeze(self, app_id: str) -> None:
        for name in replicas(self.stack, app_id):
            self.stack.freeze_app(name)

    def thaw(self, app_id: str) -> None:
        for name in replicas(self.stack, app_id):
            self.stack.thaw_app(name)

    async def every_payment_replica_charges(self) -> bool:
        """Each has a sidecar, and in it a breaker, of its own; which of them an order meets is chance."""
        headers = {"X-Tenant-Id": "default", "dapr-api-token": self.stack.app_token}
        for name in replicas(self.stack, PAYMENT):
            canary: dict[str, Any] = {"key": new_id(), "orderId": "canary", "amount": "1.00", "currency": "USD"}
            canary |= {"paymentMethod": "credit_card", "cardToken": "tok_ok"}
            async with client_of(self.stack, name, headers) as client:
                answer = await client.post("/process-payment", json=canary)
            if answer.status_code != 200 or answer.json()["status"] != "succeeded":
                return False
        return True

    # --- databases ---

    def rows(self, service: str, query: str, *values: Any) -> Sequence[Mapping[str, Any]]:
        """Read a service's own database: what it says of itself is not the evidence here."""
        name = service.removesuffix("-service").upper()
        url = self.stack.apps[service].env[f"{name}_DATABASE_URL"]
        if url.startswith("postgresql:"):
            with psycopg.connect(url) as connection, connection.cursor(row_factory=dict_row) as cursor:
                # As bytes: psycopg's types let a query be no other text than a literal.
                return cursor.execute(query.replace("?", "%s").encode(), values).fetchall()
        with closing(sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def stock(self, sku: str) -> int | None:
        found = self.rows(ORDER, "SELECT available FROM stock WHERE sku = ?", sku)
        return found[0]["available"] if found else None

    def count(self, service: str, table: str) -> int:
        return self.rows(service, f"SELECT count(*) AS n FROM {table}")[0]["n"]  # noqa: S608  a test's own word

    def payment_status(self, order_id: str) -> str | None:
        found = self.rows(PAYMENT, "SELECT status FROM payments WHERE order_id = ?", order_id)
        return found[0]["status"] if found else None

    def processed(self, event_ids: Iterable[str]) -> bool:
        known = {row["event_id"] for row in self.rows(NOTIFICATION, "SELECT event_id FROM event_processing")}
        return set(event_ids) <= known

    async def publish(self, *events: dict[str, Any]) -> None:
        """Events as the order service's sidecar would publish them."""
        url = self.stack.sidecar_url(ORDER) + "/v1.0/publish/pubsub/orders"
        async with httpx.AsyncClient(trust_env=False) as client:
            for event in events:
                headers = {"content-type": "application/cloudevents+json", "dapr-api-token": self.stack.dapr_token}
                (await client.post(url, json=event, headers=headers)).raise_for_status()
