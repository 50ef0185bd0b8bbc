"""The order chain: orders per second, latencies and memory, and the floor under them.

Everything is real: sidecars, Redis (appending), SQLite (synchronous=full), sandbox. The client runs in this process
and on the same two cores as everything else.
"""

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp
import notifications
from cryptography.fernet import Fernet
from load import Call, alone, at_rate, many, percentiles
from peers.run import Sandbox
from yarl import URL

from chassis import migrations
from chassis.takeover import instance_id
from order.saga import WORKFLOW, OrderRef
from payment.providers import PROVIDERS
from stack.eventually import eventually
from stack.local import free_port
from stack.postgres import Postgres
from stack.sidecars import AppSpec, Stack

SERVICES = ("payment", "notification", "order")
ROOT = Path(__file__).resolve().parents[2]
ORDERS = "/api/v1/orders"
BODY = {
    "customer": {"id": "bench", "name": "Ada", "email": "ada@example.com", "phone": "+12025550123", "locale": "en"},
    "items": [{"sku": "latte", "variation": "vanilla", "quantity": 2}],
    "location": "take-away",
    "currency": "USD",
    "payment": {"method": "credit_card", "token": "tok_ok"},
}
_WEBHOOK_SECRET = "whsec_b2YtdGhlLWJlbmNoLWFsb25lLW9mLWNvdXJzZQ=="
_OF_PROVIDERS = json.dumps(dict.fromkeys(PROVIDERS, _WEBHOOK_SECRET))
_RECEIPTS = {"africas-talking": "of-the-bench", "legacy": _WEBHOOK_SECRET, "smtp": _WEBHOOK_SECRET}
_SECRETS = notifications.SECRETS | {"receipt-secrets": json.dumps(_RECEIPTS)}
DELIVERED_WITHIN = 3  # seconds; reading a large inbox earlier would keep the sandbox from receiving the rest
LEVELS = (4, 64)  # clients, besides one and those of the options
_OF_ITS_BEST = 0.6  # by the clock: as most systems are run
_CLOUD_EVENT = {"content-type": "application/cloudevents+json"}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    print("starting the stack …", flush=True)
    with stack(folder, on_sqlite(folder)) as running:
        return asyncio.run(_measure(running, options))


def on_sqlite(folder: Path, services: Iterable[str] = SERVICES) -> dict[str, str]:
    """Each service's database, by its name."""
    return {name: f"sqlite:///{folder}/{name}.db" for name in services}


def on_postgresql(server: Postgres, name: str) -> dict[str, str]:
    return {service: server.create(f"{name}_{service}") for service in SERVICES}


def stack(folder: Path, databases: Mapping[str, str], *, replicas: int = 1) -> Stack:
    """Not yet started, of the services that have a database. They are migrated, as they are before all but the first
    start of a service."""
    for name in databases:
        metadata = import_module(f"{name}.tables").metadata
        migrations.upgrade(databases[name], import_module(name), metadata)
    smtp = str(free_port())

    def env(name: str) -> dict[str, str]:
        upper = name.upper()
        return {f"{upper}_DATABASE_URL": databases[name], "LOG_LEVEL": "INFO", "NOTIFICATION_SMTP_PORT": smtp}

    outside = {
        "SANDBOX_DATA_DIR": f"{folder}/sandbox",
        "SANDBOX_SMTP_PORT": smtp,
        "SANDBOX_PAYMENT_B_KEY": "of-the-bench",
        "SANDBOX_AFRICAS_TALKING_KEY": _SECRETS["africas-talking-key"],
        "SANDBOX_LEGACY_SMS_KEY": _SECRETS["legacy-sms-key"],
    }
    # As in production: a webhook follows every charge, and a receipt every message.
    outside |= {
        "SANDBOX_WEBHOOK_URL": "{payment-service}/api/v1/webhooks",
        "SANDBOX_PROVIDER_WEBHOOK_SECRETS": _OF_PROVIDERS,
    }
    outside |= {"SANDBOX_RECEIPT_URL": "{notification-service}/api/v1/receipts"}
    outside |= {"SANDBOX_RECEIPT_SECRETS": _SECRETS["receipt-secrets"]}
    keys = {"seal-keys": Fernet.generate_key().decode(), "payment-b-key": "of-the-bench"}
    keys |= {"provider-webhook-secrets": _OF_PROVIDERS, "link-key": Fernet.generate_key().decode()} | _SECRETS
    services = [
        AppSpec(
            app_id=f"{name}-service", name=f"{name}-service{of}", module=f"{name}.main", env=env(name), secrets=keys
        )
        for name in databases
        for of in ("", *(f"-{number}" for number in range(2, replicas + 1)))
    ]
    sandbox = AppSpec(app_id="sandbox", module="sandbox.main", env=outside, known_as="localhost:8009")
    tools = ROOT / "tools" / "bin"
    return Stack(apps=[sandbox, *services], components=ROOT / "components", run_dir=folder, tools_bin=tools)


async def _measure(running: Stack, options: argparse.Namespace) -> dict[str, Any]:
    async with connected(running) as bench:
        await alone(bench.place, 30)  # warm: code paths, connections, statement caches
        await bench.to_inbox()
        figures: dict[str, Any] = {}
        print(f"orders: {options.alone} one after another, then {options.clients} clients …", flush=True)
        figures["order_alone"] = await alone(bench.place, options.alone)
        figures["to_inbox_alone"] = await bench.to_inbox()
        before = running.cpu_seconds()
        figures["order_many"] = await many(bench.place, options.clients, options.seconds)
        await asyncio.sleep(DELIVERED_WITHIN)  # the mails' work belongs to the orders' cost
        figures["order_cpu_ms_each"] = cpu_ms_each(before, running.cpu_seconds(), figures["order_many"]["count"])
        figures["to_inbox_many"] = await bench.to_inbox()
        print("orders: more and fewer clients, then by the clock …", flush=True)
        for clients in LEVELS:
            figures[f"order_{clients}_clients"] = await many(bench.place, clients, options.seconds / 2)
            await asyncio.sleep(DELIVERED_WITHIN)
            await bench.to_inbox()
        rate = figures["order_many"]["per_s"] * _OF_ITS_BEST
        figures["order_by_the_clock"] = await at_rate(bench.place, rate, options.seconds)
        await asyncio.sleep(DELIVERED_WITHIN)
        figures["to_inbox_by_the_clock"] = await bench.to_inbox()
        figures["memory_mb"] = memory_mb(running.memory())
        print("events: 100 a second through the broker …", flush=True)
        figures["event_to_sent"] = await bench.events(options.seconds)
        print("floor: the same call to payment through the sidecars alone …", flush=True)
        figures["floor_alone"] = await alone(bench.floor, options.alone)
        figures["floor_many"] = await many(bench.floor, options.clients, options.seconds / 2)
        print("durable driver: the same saga as a Dapr Workflow …", flush=True)
        figures["durable_alone"] = await alone(bench.durable, max(20, options.alone // 4))
        figures["durable_many"] = await many(bench.durable, options.clients, options.seconds / 2)
        figures["ratio_order_to_floor"] = round(figures["order_many"]["per_s"] / figures["floor_many"]["per_s"], 3)
        print("idle: nobody asks anything …", flush=True)
        await asyncio.sleep(DELIVERED_WITHIN)
        figures["idle_percent_of_a_core"] = await _idle(running, options.seconds)
        return figures


async def _idle(running: Stack, seconds: float) -> dict[str, float]:
    before = running.cpu_seconds()
    await asyncio.sleep(seconds)
    return {name: round((cpu - before.get(name, 0)) * 100 / seconds, 2) for name, cpu in running.cpu_seconds().items()}


def cpu_ms_each(before: Mapping[str, float], after: Mapping[str, float], count: float) -> dict[str, float]:
    return {name: round((cpu - before.get(name, 0)) * 1000 / count, 2) for name, cpu in after.items()}


def memory_mb(each: Mapping[str, int]) -> dict[str, int]:
    return {name: round(size / 2**20) for name, size in each.items()}


@asynccontextmanager
async def connected(running: Stack) -> AsyncGenerator["Bench"]:
    """As a user, at every replica of the order service in turn."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"dapr-api-token": running.dapr_token}) as session:
        outside = Sandbox(url=running.url("sandbox"), smtp_port=0)
        staff = await outside.bearer(session, "staff")
        session.headers["Authorization"] = await outside.bearer(session)
        yield Bench(running, session, staff=staff)


class Bench:
    """`staff` is a bearer token."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession, *, staff: str) -> None:
        self._stack, self.session, self._staff = stack, session, staff
        replicas = [name for name, spec in stack.apps.items() if spec.app_id == "order-service"]
        self._orders = itertools.cycle([stack.url(name) + ORDERS for name in replicas])
        self._sidecar = stack.sidecar_url("order-service")
        self.placed: list[str] = []
        self._told: dict[str, float] = {}
        self._floor = 0

    async def place(self) -> None:
        async with self.session.post(next(self._orders), json=BODY) as answer:
            order = await answer.json()
            assert answer.status == 201, order
        self._told[order["id"]] = time.time()
        self.placed.append(order["id"])

    def page(self, service: str, path: str) -> Call:
        """Staff's first page of a list."""
        url = self._stack.url(service) + path

        async def read() -> None:
            async with self.session.get(url, headers={"Authorization": self._staff}) as answer:
                assert (await answer.json())["items"]

        return read

    async def floor(self) -> None:
        """The same call to payment and its provider through the sidecars, with no order around it."""
        self._floor += 1
        name = f"floor-{self._floor}"
        body = {"key": name, "orderId": name, "amount": "9.00", "currency": "USD"}
        body |= {"paymentMethod": "credit_card", "cardToken": "tok_ok"}
        url = f"{self._sidecar}/v1.0/invoke/payment-service/method/process-payment"
        async with self.session.post(url, json=body, headers={"X-Tenant-Id": "default"}) as answer:
            assert (await answer.json())["success"]

    async def durable(self) -> None:
        """A confirmed order driven once more, by the durable driver: every step, idempotent, through the engine."""
        ref = OrderRef(tenant="default", id=self.placed.pop())
        instance = instance_id(ref)
        start = f"{self._sidecar}/v1.0/workflows/dapr/{WORKFLOW}/start?instanceID={instance}"
        async with self.session.post(start, json={"reference": ref.model_dump(), "attempt": 0}) as answer:
            assert answer.status == 202, await answer.text()
        while True:
            async with self.session.get(f"{self._sidecar}/v1.0/workflows/dapr/{instance}") as answer:
                if (await answer.json()).get("runtimeStatus") == "COMPLETED":
                    return
            await asyncio.sleep(0.002)

    async def events(self, seconds: float) -> dict[str, float]:
        """From the moment an event is due to its message's `sentAt`, through broker, sidecars and mail server."""
        url = f"{self._sidecar}/v1.0/publish/pubsub/orders"

        async def deliver(event: bytes) -> None:
            async with self.session.post(url, data=event, headers=_CLOUD_EVENT) as answer:
                assert answer.status == 204, await answer.text()

        due = await notifications.evenly(deliver, rate=100, seconds=seconds)
        sent: dict[str, float] = {}

        async def all_are_sent() -> bool:
            sent.update(await self._newest_sent(len(due)))
            return due.keys() <= sent.keys()

        await eventually(all_are_sent, within=60, every=1)
        return notifications.since(due, sent)

    async def _newest_sent(self, count: int) -> dict[str, float]:
        """When what stands on the first pages, `count` at least, was sent, by its event's id."""
        url = self._stack.url("notification-service") + "/api/v1/notifications"
        seen: list[dict[str, Any]] = []
        asked = {"pageSize": "100"}
        while len(seen) < count:
            async with self.session.get(url, params=asked, headers={"Authorization": self._staff}) as answer:
                page = await answer.json()
            seen += page["items"]
            asked["cursor"] = page["next"]
        at = {one["eventId"]: one["sentAt"] for one in seen if one["sentAt"]}
        return {event_id: datetime.fromisoformat(text).timestamp() for event_id, text in at.items()}

    async def to_inbox(self) -> dict[str, float]:
        """Milliseconds from each 201 to the mail's arrival; waits until every mail is there."""
        placed, waiting, took = len(self._told), self._told, list[float]()
        self._told = {}
        deadline = time.monotonic() + 60
        while waiting and time.monotonic() < deadline:
            for mail in await self._newest_mails(placed):
                for order_id in [one for one in mail["text"].split() if one in waiting]:
                    arrived = datetime.fromisoformat(mail["at"]).timestamp()
                    took.append((arrived - waiting.pop(order_id)) * 1000)
            await asyncio.sleep(1)
        return percentiles(took) | {"missing": len(waiting)}

    async def _newest_mails(self, count: int) -> list[dict[str, Any]]:
        mails: list[dict[str, Any]] = []
        page: str | URL | None = self._stack.url("sandbox") + "/sandbox/inbox"
        while page is not None and len(mails) < count:
            async with self.session.get(page) as answer:
                mails += await answer.json()
                page = answer.links["next"]["url"] if "next" in answer.links else None
        return mails[:count]
