"""What a process tells staff of itself, its sidecar, its outbox and the events it has handled."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import orjson
import pytest
import sqlalchemy as sa
from fastapi import Request, Response

from chassis.app import create_app
from chassis.db import Database
from chassis.edge.auth import Access
from chassis.events import CloudEvent, InvalidEvent, receive
from chassis.health import Health
from chassis.ids import now
from chassis.leases import Leases
from chassis.ops import BreakerState, breakers_in
from chassis.outbox import Outbox
from chassis.problems import Unavailable
from chassis.settings import ServiceSettings
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer

TOKEN = "app-token-of-the-tests"
# As daprd 1.18.2 writes them, after three calls that failed.
METRICS = """\
# HELP dapr_resiliency_cb_state A resiliency policy's current CircuitBreakerState state.
# TYPE dapr_resiliency_cb_state gauge
dapr_resiliency_cb_state{app_id="t",flow_direction="outbound",name="brewline",namespace="",policy="circuitbreaker",status="closed",target="app_payment-service"} 0
dapr_resiliency_cb_state{app_id="t",flow_direction="outbound",name="brewline",namespace="",policy="circuitbreaker",status="half-open",target="app_payment-service"} 0
dapr_resiliency_cb_state{app_id="t",flow_direction="outbound",name="brewline",namespace="",policy="circuitbreaker",status="open",target="app_payment-service"} 1
dapr_resiliency_cb_state{app_id="t",flow_direction="outbound",name="brewline",namespace="",policy="circuitbreaker",status="unknown",target="app_payment-service"} 0
dapr_resiliency_cb_state{app_id="t",flow_direction="outbound",name="brewline",namespace="",policy="circuitbreaker",status="closed",target="app_sms"} 1
dapr_resiliency_count{app_id="t",flow_direction="outbound",name="brewline",namespace="",policy="circuitbreaker",status="open",target="app_push"} 1
"""  # noqa: E501


@pytest.fixture
def metrics_port() -> Iterator[int]:
    """A sidecar's metrics."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(METRICS.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002  the library's signature
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def sidecar() -> FakeSidecar:
    return FakeSidecar()


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture
async def client(
    db: Database, metadata: sa.MetaData, sidecar: FakeSidecar, issuer: Issuer, metrics_port: int
) -> AsyncIterator[httpx.AsyncClient]:
    settings = ServiceSettings(
        app_port=8001,
        dapr_http_port=3501,
        dapr_metrics_port=metrics_port,
        app_api_token=TOKEN,
        auth_jwks_file=issuer.jwks_file,
    )
    table, leases = metadata.tables["outbox"], Leases(db, metadata.tables["leases"])
    app = create_app(
        title="t",
        settings=settings,
        sidecar=sidecar,
        rules={"POST /events/orders": Access.SIDECAR},
        health=Health({}),
        refusals={},
        outbox=Outbox(db=db, table=table, leases=leases, sidecar=sidecar, pubsub="pubsub"),
    )

    async def handle(_topic: str, event: CloudEvent) -> None:
        if event.type == "bad":
            raise InvalidEvent
        if event.type == "down":
            raise Unavailable("database")

    @app.post("/events/orders")
    async def take(request: Request) -> Response:
        return await receive(request, "orders", handle)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        client.headers.update(issuer.bearer("staff"))
        yield client


async def test_staff_is_told_of_app_sidecar_and_breakers(client: httpx.AsyncClient, issuer: Issuer):
    told = (await client.get("/api/v1/ops")).json()

    assert (told["app"]["id"], told["app"]["port"]) == ("test", 8001)
    assert (told["sidecar"]["version"], told["sidecar"]["port"]) == ("1.18.2", 3501)
    assert told["sidecar"]["breakers"] == [
        {"target": "payment-service", "state": "open"},
        {"target": "sms", "state": "closed"},
    ]
    assert (await client.get("/api/v1/ops", headers=issuer.bearer("user"))).status_code == 403


async def test_what_does_not_answer_is_left_out_and_the_rest_is_told(
    client: httpx.AsyncClient, sidecar: FakeSidecar, db: Database
):
    sidecar.alive = False
    await db.write(lambda conn: conn.execute(sa.text("DROP TABLE outbox")))

    told = (await client.get("/api/v1/ops")).json()

    assert (told["sidecar"], told["outbox"], told["app"]["id"]) == (None, None, "test")


async def test_it_tells_how_many_events_wait_and_how_long(
    client: httpx.AsyncClient, db: Database, metadata: sa.MetaData
):
    assert (await client.get("/api/v1/ops")).json()["outbox"] == {"waiting": 0, "oldestSeconds": 0.0}
    facts = {"tenant": "t", "aggregate_id": "a", "topic": "orders", "type": "x", "data": "{}", "traceparent": ""}
    rows = [
        {**facts, "event_id": "1", "created_at": now() - timedelta(hours=1), "published_at": now()},
        {**facts, "event_id": "2", "created_at": now() - timedelta(seconds=30), "published_at": None},
        {**facts, "event_id": "3", "created_at": now(), "published_at": None},
    ]
    await db.write(lambda conn: conn.execute(sa.insert(metadata.tables["outbox"]), rows))

    outbox = (await client.get("/api/v1/ops")).json()["outbox"]

    assert outbox["waiting"] == 2
    assert 30 <= outbox["oldestSeconds"] < 60


async def test_the_lag_is_how_old_the_last_event_was_that_was_handled(client: httpx.AsyncClient):
    async def deliver(**event: str) -> None:
        body = orjson.dumps({"id": "e", "type": "good"} | event)
        await client.post("/events/orders", content=body, headers={"dapr-api-token": TOKEN})

    await deliver(time=(now() - timedelta(seconds=90)).isoformat())
    await deliver(time=(now() - timedelta(hours=1)).isoformat(), type="bad")
    handled = (await client.get("/api/v1/ops")).json()["handled"]
    await deliver()
    undated = (await client.get("/api/v1/ops")).json()["handled"]

    assert [(last["topic"], 90 <= last["ageSeconds"] < 120) for last in handled] == [("orders", True)]
    assert undated[0]["ageSeconds"] is None


async def test_an_event_that_is_tried_again_and_again_shows_which_partition_lags(
    client: httpx.AsyncClient, points: Callable[[str], list[Any]]
):
    async def deliver(partition: str, age: float, type: str = "good") -> None:  # noqa: A002  CloudEvents' own word
        body = orjson.dumps({"id": "e", "type": type, "time": (now() - timedelta(seconds=age)).isoformat()})
        told = {"dapr-api-token": TOKEN, "__partition": partition}
        await client.post("/events/orders", content=body, headers=told)

    await deliver("3", 90, type="down")
    await deliver("4", 5)

    ages = {point.attributes.get("partition"): point.value for point in points("events_age_seconds")}
    assert 90 <= ages["3"] < 120
    assert 5 <= ages["4"] < 35


def test_a_breaker_of_an_unknown_state_is_none():
    assert breakers_in(METRICS.replace('"open",target="app_payment', '"odd",target="app_payment'))[0].target == "sms"
    assert [each.state for each in breakers_in(METRICS)] == [BreakerState.OPEN, BreakerState.CLOSED]
