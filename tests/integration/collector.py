"""A receiver of OTLP, for the tests of what is told."""

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stack.local import HOST, free_port

_SILENCE = 1.5  # seconds: each service and sidecar tells its spans every fifth of one


class Collector:
    """An OTLP/HTTP receiver that keeps what it is told: (trace id, service, span name) by span id, and metric names."""

    def __init__(self, host: str = HOST) -> None:
        self.spans: dict[bytes, tuple[str, str, str]] = {}
        self.heard_at = 0.0  # of a span
        self.metrics: set[tuple[str, str]] = set()
        self.events: list[tuple[str, str]] = []  # of the business: (service, name)
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

        self._server = ThreadingHTTPServer((host, free_port()), Handler)
        self.url = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, path: str, body: bytes) -> None:
        if path.endswith("traces"):
            self.heard_at = time.monotonic()
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = _service(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self.spans |= {span.span_id: (span.trace_id.hex(), service, span.name) for span in scope.spans}
        elif path.endswith("metrics"):
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                service = _service(measured.resource.attributes)
                for scope in measured.scope_metrics:
                    self.metrics |= {(service, metric.name) for metric in scope.metrics}
        elif path.endswith("logs"):
            for logged in ExportLogsServiceRequest.FromString(body).resource_logs:
                service = _service(logged.resource.attributes)
                records = [record for scope in logged.scope_logs for record in scope.log_records]
                self.events += [(service, record.event_name) for record in records if record.event_name]

    def is_silent(self) -> bool:
        return time.monotonic() - self.heard_at > _SILENCE

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _service(attributes: object) -> str:
    return next(one.value.string_value for one in attributes if one.key == "service.name")  # type: ignore[attr-defined]  # protobuf's own list
