"""One trace from the request to the sent e-mail, through every service and its sidecar, told by OTLP."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from brewery import ORDER, PUBLIC, SERVICES, bearer, client_of, order_body
from conftest import ROOT, specs
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stack.eventually import eventually
from stack.local import HOST, free_port
from stack.sidecars import Stack

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


METRICS = {
    "workflow_steps_total",
    "workflow_step_duration_ms",
    "orders_confirmed_total",
    "http.server.request.duration",
    "edge.requests",
}


class Collector:
    """An OTLP/HTTP receiver that keeps what it is told: (trace id, service, span name), and metric names."""

    def __init__(self) -> None:
        self.spans: set[tuple[str, str, str]] = set()
        self.metrics: set[tuple[str, str]] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                plain = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                collector.take(self.path, plain)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002  the library's signature
                return

        self._server = ThreadingHTTPServer((HOST, free_port()), Handler)
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, path: str, body: bytes) -> None:
        if path.endswith("traces"):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = _service(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self.spans |= {(span.trace_id.hex(), service, span.name) for span in scope.spans}
        elif path.endswith("metrics"):
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                service = _service(measured.resource.attributes)
                for scope in measured.scope_metrics:
                    self.metrics |= {(service, metric.name) for metric in scope.metrics}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _service(attributes: object) -> str:
    return next(one.value.string_value for one in attributes if one.key == "service.name")  # type: ignore[attr-defined]  # protobuf's own list


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """The stack of this test is its own."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


async def test_one_trace_leads_from_the_request_to_the_mail(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "data").mkdir()
    apps = specs(tmp_path / "data")
    with Stack(apps=apps, components=ROOT / "components", run_dir=tmp_path, tools_bin=ROOT / "tools" / "bin") as stack:
        headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
        async with client_of(stack, ORDER, bearer(stack, "user")) as client:
            placed = await client.post(PUBLIC, json=order_body(), headers=headers)
            assert placed.status_code == 201
        await eventually(lambda: _told(collector))
        for app_id in SERVICES:
            assert TRACE_ID in stack.logs(app_id)


def _told(collector: Collector) -> bool:
    seen = {(service, name) for trace, service, name in collector.spans if trace == TRACE_ID}
    names = {name for _service, name in seen}
    assert {"fulfil_order.charge", "fulfil_order.confirm", "charge.drive", "notification.send"} <= names
    assert {service for service, _name in seen} >= set(SERVICES)
    # daprd speaks under its app's name: what only a sidecar says of this trace.
    assert any("CallLocal" in name for name in names), names
    assert {(ORDER, name) for name in METRICS} <= collector.metrics
    return True
