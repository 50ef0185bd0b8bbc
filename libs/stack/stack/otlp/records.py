"""What OTLP says, as rows: spans, and the log lines that belong to a trace."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

_MOST_TEXT = 4096  # characters of a value; the rest is cut
_LARGEST = 2**63 - 1  # that SQLite holds
_KEPT_ELSEWHERE = frozenset({"tenant", "tenant_name", "service", "trace_id", "span_id"})  # of no use in each line


@dataclass(frozen=True, kw_only=True)
class Span:
    """Times in nanoseconds, `start` since 1970. `tenant` is empty where the span names none."""

    trace: str
    span: str
    parent: str
    service: str
    peer: str
    name: str
    kind: str
    start: int
    duration: int
    error: bool
    tenant: str
    attributes: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """`at` in nanoseconds since 1970; `attributes` are JSON."""

    trace: str
    span: str
    service: str
    at: int
    level: str
    name: str
    tenant: str
    attributes: str


def spans(body: bytes) -> Iterator[Span]:
    """Raises google.protobuf.message.DecodeError."""
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _service(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                if len(span.trace_id) == 16 and len(span.span_id) == 8:
                    yield _span(service, span)


def lines(body: bytes) -> Iterator[Line]:
    """Those of a trace. Raises google.protobuf.message.DecodeError."""
    for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        service = _service(resource.resource.attributes)
        for record in (record for scope in resource.scope_logs for record in scope.log_records):
            if len(record.trace_id) != 16 or not any(record.trace_id):
                continue
            told = _values(record.attributes)
            yield Line(
                trace=record.trace_id.hex(),
                span=record.span_id.hex(),
                service=service,
                at=_moment(record.time_unix_nano or record.observed_time_unix_nano),
                level=(record.severity_text or "INFO").lower(),
                name=str(_value(record.body)),
                tenant=str(told.get("tenant", "")),
                attributes=_attributes(told),
            )


def _span(service: str, span: ProtoSpan) -> Span:
    told = _values(span.attributes)
    start = _moment(span.start_time_unix_nano)
    return Span(
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        service=service,
        peer=str(told.get("peer.service", "")),
        name=span.name[:_MOST_TEXT],
        kind=ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower() if 0 <= span.kind <= 5 else "",
        start=start,
        duration=max(0, _moment(span.end_time_unix_nano) - start),
        error=span.status.code == Status.STATUS_CODE_ERROR or _answered(told) >= 500,
        tenant=str(told.get("tenant", "")),
        attributes=_attributes(told),
    )


def _answered(told: dict[str, Any]) -> int:
    status = told.get("http.response.status_code")
    return status if isinstance(status, int) else 0


def _moment(nanoseconds: int) -> int:
    return min(nanoseconds, _LARGEST)


def _service(attributes: Iterable[KeyValue]) -> str:
    return str(_values(attributes).get("service.name", "unknown"))


def _values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value if isfinite(value.double_value) else str(value.double_value)
        case "string_value":
            return value.string_value[:_MOST_TEXT]
        case None:
            return ""
        case _:  # lists, mappings and bytes: nobody here asks for a part of one
            return str(value).strip()[:_MOST_TEXT]


def _attributes(told: dict[str, Any]) -> str:
    kept = {key: value for key, value in told.items() if key not in _KEPT_ELSEWHERE}
    return json.dumps(kept)
