"""The notification service alone, in this process: how many it sends for a second of a core, and how soon after an
event. Its database is real; its sidecar takes every event, and its channel every message, at once."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
import sqlalchemy as sa
from in_process import Headers, encoded, layer_of, request, unheard
from load import percentiles
from starlette.types import ASGIApp

import notification
from chassis import migrations
from chassis.db import Database
from chassis.ids import new_id, now
from notification.app import create_app
from notification.domain import ChannelName, Message
from notification.outcomes import Delivered, Outcome
from notification.settings import Settings
from notification.tables import contacts, metadata, notifications
from order.events import OrderConfirmed
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer

_APP_TOKEN = "of-the-bench-alone"  # nobody else can reach the service
SECRETS = {
    "unsubscribe-key": "a-key-of-the-bench-alone-of-course",
    "receipt-secrets": "{}",
    "africas-talking-key": "of-the-bench",
    "legacy-sms-key": "of-the-bench",
}
ORDER: dict[str, Any] = OrderConfirmed.model_json_schema()["examples"][0]
_TAKEN = b'{"status":"SUCCESS"}'
_LONGEST = 120  # seconds until whatever is waited for must have come


class Nowhere:
    """A channel that takes everything at once."""

    concurrency = 4

    async def send(self, message: Message) -> Outcome:
        return Delivered(subject=message.rendered.subject[:255], provider="nowhere", message_id=message.id)

    async def close(self) -> None:
        return


@dataclass(frozen=True, kw_only=True)
class Service:
    app: ASGIApp
    issuer: Issuer
    sidecar: FakeSidecar

    def bearer(self, *roles: str, **claims: str) -> Headers:
        return encoded(self.issuer.bearer(*roles, exp=int(time.time()) + 3600, **claims))


def migrate(url: str) -> None:
    migrations.upgrade(url, notification, metadata)


@asynccontextmanager
async def serving(url: str, folder: Path) -> AsyncGenerator[Service]:
    """Around the migrated database at `url`."""
    issuer, sidecar = Issuer(folder), FakeSidecar()
    sidecar.secrets |= SECRETS
    given = {"app_api_token": _APP_TOKEN, "auth_jwks_file": issuer.jwks_file, "NOTIFICATION_DATABASE_URL": url}
    given |= {"NOTIFICATION_BULK_RATES": {}}  # as fast as it can
    with unheard():
        app = create_app(
            Settings.model_validate(given), sidecar=sidecar, channels=dict.fromkeys(ChannelName, Nowhere())
        )
        async with app.router.lifespan_context(app):
            yield Service(app=layer_of(app, app.build_middleware_stack()), issuer=issuer, sidecar=sidecar)


async def measure(url: str, folder: Path, *, count: int, seconds: float) -> dict[str, dict[str, float]]:
    """`count` in one bulk, then for `seconds` an event every hundredth of one; into an empty database."""
    migrate(url)
    await _introduce(url, count)
    async with serving(url, folder) as service:
        await _bulk(service, min(500, count))  # warm: code paths, connections, statement caches
        bulk = await _bulk(service, count)
        await _events(service, url, rate=100, seconds=2)
        return {"bulk": bulk, "event_to_sent": await _events(service, url, rate=100, seconds=seconds)}


# --- how many ---


async def _introduce(url: str, count: int) -> None:
    """Recipients c-0, c-1 and so on."""
    same = {"tenant": "default", "owner": "", "name": "Ada", "phone": "", "locale": "en", "version": 1, "as_of": now()}
    people = [(f"c-{number}", f"c-{number}@example.com") for number in range(count)]
    rows = [same | {"id": name, "email": email, "email_key": email} for name, email in people]
    db = Database(url)
    await db.start()
    await db.write(lambda conn: conn.execute(sa.insert(contacts), rows))
    await db.stop()


async def _bulk(service: Service, count: int) -> dict[str, float]:
    """Until each is sent, written down and told to other services. A core's second is one of this process's."""
    body = {
        "channel": "email",
        "templateCategory": "OrderUpdates",
        "templateName": "order-confirmed",
        "context": ORDER,
        "recipients": [{"recipientId": f"c-{number}"} for number in range(count)],
    }
    told, headers = len(service.sidecar.published), service.bearer("admin", sub="a-1")
    began, cpu, of_database = time.perf_counter(), time.process_time(), _children_cpu()
    answer = await request(service.app, "POST /api/v1/notifications/bulk", headers, content=orjson.dumps(body))
    assert answer.status == 202, answer.body
    await eventually(lambda: len(service.sidecar.published) >= told + count, within=_LONGEST, every=0.05)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "count": count,
        "per_s": round(count / took, 1),
        "per_core_s": round(count / cpu, 1),
        "database_cpu_ms_each": round((_children_cpu() - of_database) * 1000 / count, 2),
    }


def _children_cpu() -> float:
    """Seconds of PostgreSQL, where it is one of this process's; SQLite's are this process's own."""
    spent = [one.cpu_times() for one in psutil.Process().children(recursive=True) if one.name() == "postgres"]
    return sum(times.user + times.system for times in spent)


# --- how soon ---


async def _events(service: Service, url: str, *, rate: int, seconds: float) -> dict[str, float]:
    async def deliver(event: bytes) -> None:
        while (answer := await request(service.app, "POST /events/orders", headers, content=event)).body != _TAKEN:
            assert answer.body == b'{"status":"RETRY"}', answer.body
            await asyncio.sleep(0.5)  # as the subscription's policy says, at first

    headers, cpu = encoded({"dapr-api-token": _APP_TOKEN}), time.process_time()
    due = await evenly(deliver, rate=rate, seconds=seconds)
    sent = await _sent(url, set(due))
    return {"per_core_s": round(len(due) / (time.process_time() - cpu), 1)} | since(due, sent)


async def evenly(
    deliver: Callable[[bytes], Coroutine[Any, Any, None]], *, rate: int, seconds: float
) -> dict[str, float]:
    """By the clock, whether the last ones are answered or not; when each event was due, by its id."""
    due: dict[str, float] = {}
    began = time.time() + 0.1
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            at = began + number / rate
            await asyncio.sleep(max(0.0, at - time.time()))
            event = _confirmed(number)
            due[event["id"]] = at
            group.create_task(deliver(orjson.dumps(event)))
    return due


def since(due: dict[str, float], sent: dict[str, float]) -> dict[str, float]:
    took = [(sent[event_id] - at) * 1000 for event_id, at in due.items()]
    return {"count": len(took)} | percentiles(took)


def _confirmed(number: int) -> dict[str, Any]:
    """An order's event as the broker delivers it; each of another order, by one of a thousand customers."""
    customer = f"e-{number % 1000}"
    person = ORDER["customer"] | {"id": customer, "email": f"{customer}@example.com"}
    return {
        "specversion": "1.0",
        "id": new_id(),
        "source": "order-service",
        "type": OrderConfirmed.type,
        "time": now().isoformat(),
        "tenantid": "default",
        "datacontenttype": "application/json",
        "data": ORDER | {"orderId": new_id(), "ownerId": f"u-{customer}", "customer": person},
    }


async def _sent(url: str, events: set[str]) -> dict[str, float]:
    """By event id, once all are."""
    table = notifications
    query = sa.select(table.c.event_id, table.c.sent_at).where(table.c.sent_at.is_not(None))
    engine = sa.create_engine(sa.make_url(url.replace("postgresql:", "postgresql+psycopg:")))
    found: dict[str, float] = {}

    def all_are() -> bool:
        with engine.connect() as conn:
            found.update((row.event_id, row.sent_at.timestamp()) for row in conn.execute(query))
        return events <= found.keys()

    try:
        await eventually(all_are, within=_LONGEST, every=0.5)
    finally:
        engine.dispose()
    return found
