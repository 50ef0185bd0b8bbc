"""One order as it is seen from outside: one trace from the request to the sent e-mail, through every service and its
sidecar, told by OTLP; and what is done for it, counted."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from brewery import NOTIFICATION, ORDER, PAYMENT, PUBLIC, bearer, client_of, order_body
from collector import Collector
from conftest import ROOT, specs

from stack.eventually import eventually
from stack.sidecars import Stack

CONCERNED = (ORDER, PAYMENT, NOTIFICATION)  # the back office has no part in an order
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


METRICS = {
    "workflow_steps_total",
    "workflow_step_duration_ms",
    "orders_confirmed_total",
    "OrderValue",
    "orders_by_status",
    "orders_oldest_unsettled_seconds",
    "outbox_waiting",
    "outbox_oldest_seconds",
    "http.server.request.duration",
    "edge.requests",
}


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """The stack of this test is its own."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


@pytest.fixture(scope="module")
def alone(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that nobody else uses."""
    folder = tmp_path_factory.mktemp("one-order")
    (folder / "data").mkdir()
    apps, tools = specs(folder / "data"), ROOT / "tools" / "bin"
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_INSECURE": "true",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }.items():
            environment.setenv(name, value)
        with Stack(apps=apps, components=ROOT / "components", run_dir=folder, tools_bin=tools) as running:
            yield running


async def test_one_trace_leads_from_the_request_to_the_mail(alone: Stack, collector: Collector) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
    async with client_of(alone, ORDER, bearer(alone, "user")) as client:
        placed = await client.post(PUBLIC, json=order_body(), headers=headers)
        assert placed.status_code == 201
    await eventually(lambda: _told(collector))
    for app_id in CONCERNED:
        assert TRACE_ID in alone.logs(app_id)


def _told(collector: Collector) -> bool:
    seen = {(service, name) for trace, service, name in list(collector.spans.values()) if trace == TRACE_ID}
    names = {name for _service, name in seen}
    assert {"fulfil_order.charge", "fulfil_order.confirm", "charge.drive", "notification.send"} <= names
    assert {service for service, _name in seen} >= set(CONCERNED)
    # daprd speaks under its app's name: what only a sidecar says of this trace.
    assert any("CallLocal" in name for name in names), names
    assert {(ORDER, name) for name in METRICS} <= collector.metrics
    assert (ORDER, "OrderPlaced") in collector.events
    return True


# --- what is done for it ---


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one service for one order, webhook and receipt included; its sidecar's spans are in it. `commits` wait for the
    disk."""

    requests: int
    records: int
    commits: int
    events: int
    spans: int


# More of anything is a decision: the price of an order is what is done for it, whatever a machine makes of that.
BUDGET = {
    ORDER: Cost(requests=3, records=8, commits=6, events=2, spans=13),
    PAYMENT: Cost(requests=2, records=5, commits=3, events=1, spans=8),
    NOTIFICATION: Cost(requests=3, records=7, commits=6, events=2, spans=10),
}
_UPKEEP = ("GET", "/v1.0/state", "/v1.0/jobs", "/v1.0/secrets")  # spans of what is done by the clock, or when we look
_ORDERS = 8  # what else happens now and then is less than one for each


async def test_no_more_is_done_for_an_order_than_its_budget_says(alone: Stack, collector: Collector) -> None:
    async with client_of(alone, ORDER, bearer(alone, "user")) as client:
        await _deliver(client, 1)
        await eventually(lambda: _all_told(alone))
        await eventually(collector.is_silent)
        for app_id in CONCERNED:
            with closing(sqlite3.connect(_database(alone, app_id))) as conn:
                assert conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        before = {app_id: _so_far(alone, collector, app_id) for app_id in CONCERNED}
        await _deliver(client, _ORDERS)
        await eventually(lambda: _all_told(alone))
        await eventually(collector.is_silent)
        spent = {app_id: _spent(alone, collector, app_id, before) for app_id in CONCERNED}

    over = {
        (app_id, what): (count, budget)
        for app_id, cost in spent.items()
        for what, count in asdict(cost).items()
        if count > (budget := asdict(BUDGET[app_id])[what])
    }
    assert not over, f"(what was done, what may be): {over}"


async def _deliver(client: httpx.AsyncClient, count: int) -> None:
    """Orders, one after another, each until its customer's mail is known to have arrived."""

    async def arrived(path: str) -> bool:
        notice = (await client.get(path)).json()["notified"]
        return notice is not None and notice["status"] == "delivered"

    for _ in range(count):
        placed = await client.post(PUBLIC, json=order_body())
        await eventually(partial(arrived, placed.headers["location"]))


def _all_told(stack: Stack) -> bool:
    """Every event has left the outboxes."""
    for app_id in CONCERNED:
        with closing(sqlite3.connect(_database(stack, app_id))) as conn:
            if conn.execute("SELECT 1 FROM outbox WHERE published_at IS NULL").fetchone():
                return False
    return True


def _so_far(stack: Stack, collector: Collector, app_id: str) -> Cost:
    lines = [json.loads(line) for line in stack.logs(app_id).splitlines() if line.startswith("{")]
    asked = [line for line in lines if line["event"] == "request" and line["method"] == "POST"]
    with closing(sqlite3.connect(_database(stack, app_id))) as conn:
        events = conn.execute("SELECT count(*) FROM outbox").fetchone()[0]
    told = [name for _trace, service, name in list(collector.spans.values()) if service == app_id]
    spans = sum(not name.startswith(_UPKEEP) and "issuer" not in name for name in told)
    reads = len([line for line in lines if line["event"] == "request"]) - len(asked)
    return Cost(requests=len(asked), records=len(lines) - reads, commits=0, events=events, spans=spans)


def _spent(stack: Stack, collector: Collector, app_id: str, before: Mapping[str, Cost]) -> Cost:
    """For each order."""
    commits = _commits(_database(stack, app_id))
    now, then = asdict(_so_far(stack, collector, app_id)), asdict(before[app_id])
    counted = {name: now[name] - then[name] for name in now} | {"commits": commits}
    return Cost(**{name: count // _ORDERS for name, count in counted.items()})


def _commits(database: Path) -> int:
    """Since the write-ahead log was emptied: of a commit's frames the last one says how large the
    database is then (https://www.sqlite.org/fileformat2.html#walformat)."""
    log = database.with_name(f"{database.name}-wal").read_bytes()
    size, salt = int.from_bytes(log[8:12], "big"), log[16:24]
    frames = [log[at : at + 24] for at in range(32, len(log), 24 + size)]
    assert frames
    assert all(frame[8:16] == salt for frame in frames), "the log was begun again meanwhile: fewer orders, please"
    return sum(frame[4:8] != bytes(4) for frame in frames)


def _database(stack: Stack, app_id: str) -> Path:
    return stack.run_dir / "data" / f"{app_id.removesuffix('-service')}.db"
