"""What the integration tests do and see, in one place: orders, the outside world's records, and the databases."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from email import message_from_string, policy
from email.message import EmailMessage
from pathlib import Path
from secrets import randbelow
from typing import Any

import httpx
import orjson
import psycopg
from psycopg.rows import dict_row

from chassis.ids import new_id
from stack.eventually import eventually
from stack.sidecars import Stack

PUBLIC = "/api/v1/orders"
ORDER, PAYMENT, NOTIFICATION = "order-service", "payment-service", "notification-service"
BACKOFFICE, DATASOURCE = "backoffice-service", "datasource-service"
SERVICES = (ORDER, PAYMENT, NOTIFICATION, BACKOFFICE, DATASOURCE)
# Whose sidecar may publish to a topic; to another team's the sandbox's.
PUBLISHERS = {"orders": ORDER, "notifications": NOTIFICATION, "customers": DATASOURCE}


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


def workflows(stack: Stack) -> httpx.AsyncClient:
    """The engine's API as order's sidecar has it; a path is an instance's id."""
    url, token = f"{stack.sidecar_url(ORDER)}/v1.0/workflows/dapr/", {"dapr-api-token": stack.dapr_token}
    return httpx.AsyncClient(base_url=url, trust_env=False, headers=token)


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

    async def payment_providers(self) -> list[str]:
        """As targets of faults."""
        targets = (await self.sandbox.get("/sandbox/faults")).json()
        return [target for target in targets if target.startswith("payment-")]

    async def ledger(self, order_id: str) -> list[str]:
        """`charge` and `refund` entries of one order, in order."""
        return [entry["kind"] for entry in await self.listed("ledger", orderId=order_id)]

    async def mails(self, order_id: str) -> list[str]:
        """Subjects of the distinct messages about one order: sending is at least once, under one Message-ID."""
        inbox = await self.newest_mails()
        return list({mail["messageId"]: mail["subject"] for mail in inbox if order_id in mail["text"]}.values())

    async def newest_mails(self) -> list[dict[str, Any]]:
        """Not all: after a bulk there are thousands."""
        return (await self.sandbox.get("/sandbox/inbox", params={"limit": 200})).json()

    async def mailed(self, order_id: str, *, within: float = 30) -> list[str]:
        return await eventually(lambda: self.mails(order_id), within=within, every=0.2)

    async def pushes(self, order_id: str) -> list[str]:
        return [push["status"] for push in await self.listed("push", orderId=order_id)]

    async def listed(self, name: str, **wanted: Any) -> list[dict[str, Any]]:
        """All that the sandbox has recorded, page by page."""
        entries: list[dict[str, Any]] = []
        page: str | None = str(httpx.URL(f"/sandbox/{name}", params=wanted))
        while page is not None:
            answer = await self.sandbox.get(page)
            entries += answer.raise_for_status().json()
            page = answer.links.get("next", {}).get("url")
        return entries

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
        url = self._database(service)
        if url.startswith("postgresql:"):
            with psycopg.connect(url) as connection, connection.cursor(row_factory=dict_row) as cursor:
                # As bytes: psycopg's types let a query be no other text than a literal.
                return cursor.execute(query.replace("?", "%s").encode(), values).fetchall()
        with closing(sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def write(self, service: str, statement: str, *values: Any) -> None:
        """What can't be brought about in a test's time."""
        url = self._database(service)
        if url.startswith("postgresql:"):
            with psycopg.connect(url) as connection:
                connection.execute(statement.replace("?", "%s").encode(), values)
            return
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute(statement, values)

    def _database(self, service: str) -> str:
        return self.stack.apps[service].env[f"{service.removesuffix('-service').upper()}_DATABASE_URL"]

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

    async def publish(self, *events: dict[str, Any], topic: str = "orders") -> None:
        """Events as the sidecar whose topic it is would publish them."""
        url = f"{self.stack.sidecar_url(PUBLISHERS[topic])}/v1.0/publish/pubsub/{topic}"
        async with httpx.AsyncClient(trust_env=False) as client:
            for event in events:
                headers = {"content-type": "application/cloudevents+json", "dapr-api-token": self.stack.dapr_token}
                (await client.post(url, content=orjson.dumps(event), headers=headers)).raise_for_status()

    async def publish_to(self, topic: str, kind: str, data: Mapping[str, Any]) -> str:
        """Such an event, by whose topic it is: the sandbox plays the services that are not ours. Its id."""
        event_id = new_id()
        event = {
            "specversion": "1.0",
            "id": event_id,
            "source": topic,
            "type": kind,
            "tenantid": "default",
            "data": data,
        }
        url = f"{self.stack.sidecar_url(PUBLISHERS.get(topic, 'sandbox'))}/v1.0/publish/pubsub/{topic}"
        headers = {"content-type": "application/cloudevents+json", "dapr-api-token": self.stack.dapr_token}
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.post(url, json=event, headers=headers)).raise_for_status()
        return event_id

    # --- what the outside world got, oldest first ---

    async def texts(self, phone: str) -> list[dict[str, Any]]:
        return (await self.listed("sms", to=phone))[::-1]

    async def inbox(self, address: str) -> list[dict[str, Any]]:
        return (await self.listed("inbox", to=address))[::-1]

    async def arrived(self, address: str, count: int = 1, *, within: float = 30) -> list[dict[str, Any]]:
        """The mails to an address, once there are so many."""

        async def there() -> list[dict[str, Any]]:
            found = await self.inbox(address)
            return found if len(found) >= count else []

        return await eventually(there, within=within)

    def letters(self, address: str) -> list[EmailMessage]:
        """The same mails with every header, as they came over the wire."""
        kept = Path(self.stack.apps["sandbox"].env["SANDBOX_DATA_DIR"]) / "inbox.jsonl"
        mails = [json.loads(line) for line in kept.read_text().splitlines()]
        return [_parsed(mail["content"]) for mail in mails if address in mail["to"]]


def _parsed(content: str) -> EmailMessage:
    return message_from_string(content, EmailMessage, policy=policy.default)


def new_phone(ending: str = "1234") -> str:
    """A Kenyan mobile's; to the sandbox its last digits say what becomes of a text."""
    return f"+2547{randbelow(10_000):04}{ending}"


class Notices:
    """The notification service's API: `client` says at which replica, and who calls."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def recipient(self, **told: Any) -> str:
        """A new one; with an e-mail of their own where none is told."""
        recipient_id = f"r-{new_id()}"
        known = {"name": "Grace", "email": f"{recipient_id}@people.example", "version": 0}
        answer = await self.client.put(f"/api/v1/recipients/{recipient_id}", json=known | told)
        return answer.raise_for_status().json()["id"]

    async def send(self, recipient_id: str, channel: str = "email", **wanted: Any) -> str:
        """The id of a message, in the words of System/test where no others are wanted."""
        command = {"eventId": new_id(), "recipientId": recipient_id, "channel": channel}
        command |= {"templateCategory": "System", "templateName": "test"} | wanted
        answer = await self.client.post("/api/v1/notifications", json=command)
        assert answer.status_code == 202, answer.text
        return answer.json()["notificationId"]

    async def seen(self, notification_id: str) -> dict[str, Any]:
        return (await self.client.get(f"/api/v1/notifications/{notification_id}")).raise_for_status().json()

    async def becomes(self, notification_id: str, status: str, *, within: float = 30) -> dict[str, Any]:
        async def there() -> dict[str, Any]:
            seen = await self.seen(notification_id)
            assert seen["status"] == status, (seen["status"], seen["error"])
            return seen

        return await eventually(there, within=within, every=0.1)

    async def history(self, **wanted: Any) -> list[dict[str, Any]]:
        """The newest of those wanted, newest first."""
        return (await self.client.get("/api/v1/notifications", params=wanted)).raise_for_status().json()["items"]

    async def pages(self, path: str, **wanted: Any) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            at = {} if cursor is None else {"cursor": cursor}
            page = (await self.client.get(path, params=wanted | at)).raise_for_status().json()
            found += page["items"]
            if (cursor := page["next"]) is None:
                return found
