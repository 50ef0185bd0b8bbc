"""The receiver of traces, spoken to as exporters do."""

import gzip
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from stack.eventually import eventually
from stack.otlp import receiver
from stack.otlp.receiver import create_app
from stack.otlp.store import Store

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"content-type": "application/x-protobuf"}
BEGIN = int(datetime.now(UTC).timestamp() * 1e9)


def told(**values: Any) -> Iterable[KeyValue]:
    for name, value in values.items():
        of_kind = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
        yield KeyValue(key=name.replace("__", "."), value=of_kind)


def span(
    name: str,
    *,
    at: int = 0,
    service: str = "order-service",
    trace: str = TRACE,
    kind: int = 3,
    ms: int = 5,
    **more: Any,
) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(told(service__name=service))
    start = BEGIN + at * 10**6
    resource.scope_spans.add().spans.add(
        trace_id=bytes.fromhex(trace),
        span_id=bytes(8 * [at % 255 + 1]),
        name=name,
        kind=kind,
        start_time_unix_nano=start,
        end_time_unix_nano=start + ms * 10**6,
        attributes=told(**more),
    )
    return request.SerializeToString()


def line(name: str, *, at: int, trace: str = TRACE, **more: Any) -> bytes:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.extend(told(service__name="payment-service"))
    resource.scope_logs.add().log_records.add(
        trace_id=bytes.fromhex(trace),
        time_unix_nano=BEGIN + at * 10**6,
        severity_text="WARNING",
        body=AnyValue(string_value=name),
        attributes=told(**more),
    )
    return request.SerializeToString()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "traces.db")


@pytest.fixture
async def client(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(store)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", headers=HEADERS) as client,
    ):
        yield client


async def test_a_trace_is_its_spans_and_its_log_lines_each_by_time(client: httpx.AsyncClient) -> None:
    await client.post("/v1/traces", content=span("second", at=20, tenant="acme", http__response__status_code=503))
    packed = gzip.compress(span("first", at=10, order_id="o-1"))
    assert (await client.post("/v1/traces", content=packed, headers={"content-encoding": "gzip"})).status_code == 200
    await client.post("/v1/logs", content=line("charge.settled", at=30, tenant="acme", outcome="Approved"))
    await client.post("/v1/logs", content=line("charge.begun", at=15))
    await client.post("/v1/logs", content=line("of no trace", at=15, trace="0" * 32))
    assert (await client.post("/v1/metrics", content=b"")).status_code == 200

    async def found() -> Any:
        answer = await client.get(f"/api/traces/{TRACE.upper()}")
        return answer.json() if len(answer.json()["spans"]) == 2 and len(answer.json()["logs"]) == 2 else None

    trace = await eventually(found)
    assert [each["name"] for each in trace["spans"]] == ["first", "second"]
    first, second = trace["spans"]
    assert (first["service"], first["kind"], first["durationMs"], first["status"]) == (
        "order-service",
        "client",
        5,
        "ok",
    )
    assert first["attributes"] == {"order_id": "o-1"}
    assert (second["tenant"], second["status"]) == ("acme", "error")
    assert [each["name"] for each in trace["logs"]] == ["charge.begun", "charge.settled"]
    settled = trace["logs"][1]
    assert (settled["service"], settled["level"], settled["tenant"]) == ("payment-service", "warning", "acme")
    assert settled["attributes"] == {"outcome": "Approved"}
    assert datetime.fromisoformat(settled["at"]).tzinfo is not None


async def test_what_is_no_otlp_is_refused_and_nothing_of_it_kept(client: httpx.AsyncClient) -> None:
    packed = {"content-encoding": "gzip"}
    bomb = gzip.compress(bytes(17 * 2**20))
    for content, headers, status in (
        (b"no protobuf", {}, 400),
        (b"no gzip", packed, 400),
        (gzip.compress(span("cut off"))[:-9], packed, 400),
        (bomb, packed, 413),
        (b"{}", {"content-type": "application/json"}, 415),
    ):
        answer = await client.post("/v1/traces", content=content, headers=headers)
        assert answer.status_code == status, content[:20]
    assert (await client.get(f"/api/traces/{TRACE}")).status_code == 404
    for minutes in ("0", "-1", "x", "99999"):
        assert (await client.get(f"/api/edges?minutes={minutes}")).status_code == 400, minutes
    assert (await client.get("/health")).status_code == 200


async def test_who_brings_more_than_is_written_comes_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "_WAITING", 1)
    app = create_app(store)  # not started: nobody writes
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=HEADERS) as client:
        answers = [await client.post("/v1/traces", content=span("one")) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 503]
    assert answers[1].headers["retry-after"] == "1"


async def test_the_map_counts_calls_and_events_of_one_tenant_or_of_all(client: httpx.AsyncClient) -> None:
    other = "0" * 31 + "1"
    for at in range(20):
        call = span("invoke", at=at, ms=at + 1, peer__service="payment-service", tenant="acme")
        await client.post("/v1/traces", content=call)
    failed = span("invoke", trace=other, peer__service="payment-service", http__response__status_code=500, tenant="b")
    await client.post("/v1/traces", content=failed)
    heard = span("heard", trace=other, service="notification-service", kind=2, peer__service="order-service")
    await client.post("/v1/traces", content=heard)
    await client.post("/v1/traces", content=span("before", at=-3_600_000, peer__service="payment-service"))

    async def found(query: str) -> dict[tuple[str, ...], tuple[float, ...]]:
        edges = (await client.get(f"/api/edges{query}")).json()["edges"]
        who, what = ("caller", "callee", "kind"), ("count", "errors", "p50Ms", "p95Ms")
        return {tuple(edge[name] for name in who): tuple(edge[name] for name in what) for edge in edges}

    pair, event = ("order-service", "payment-service", "call"), ("order-service", "notification-service", "event")

    async def of_all() -> bool:
        return await found("?minutes=15") == {pair: (21, 1, 10, 19), event: (1, 0, 5, 5)}

    await eventually(of_all)
    assert await found("?minutes=15&tenant=acme") == {pair: (20, 0, 10, 19)}
    assert await found("?minutes=15&tenant=b") == {pair: (1, 1, 5, 5), event: (1, 0, 5, 5)}


def test_of_too_much_the_oldest_goes_and_the_newest_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "traces.db", most_bytes=2**20)
    text = "x" * 1000
    for number in range(60):
        trace = f"{number + 1:032x}"
        store.add(
            [*receiver.spans(span("one", trace=trace, text=text)), *receiver.lines(line(text, at=1, trace=trace))] * 20
        )
        assert store.size() <= 2**20
    assert not any(store.by_trace(f"{1:032x}").values())
    newest = store.by_trace(f"{60:032x}")
    assert (len(newest["spans"]), len(newest["logs"])) == (20, 20)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 4 * 2**20
    assert store.edges(since=datetime.now(UTC) - timedelta(hours=1)) == []
