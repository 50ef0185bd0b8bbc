"""Traces, metrics and logs: OpenTelemetry, switched on by the standard `OTEL_…` variables, and JSON lines on stdout.

Without an exporter spans are not recorded, but ids are made and propagated all the same, so that logs, events and
problems always carry a trace id. Log lines are written by a thread of their own, a batch at a time.
"""

import atexit
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import orjson
import structlog
from opentelemetry import context, metrics, propagate, trace
from opentelemetry._logs import SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.tracebacks import ExceptionDictTransformer

from chassis.redaction import redact, redact_record

# The trace and nothing else: baggage is what callers make of it, and would go on to everybody we call.
propagate.set_global_textmap(TraceContextTextMapPropagator())
_PROPAGATED = frozenset({b"traceparent", b"tracestate"})
_IDS = RandomIdGenerator()

tracer = trace.get_tracer("brewline")
meter = metrics.get_meter("brewline")
_records = get_logger("brewline")


def trace_id() -> str:
    """The current trace's id, 32 hex digits; zeros outside of any trace."""
    return format(trace.get_current_span().get_span_context().trace_id, "032x")


def trace_id_in(parent: str) -> str | None:
    """The trace's id in a stored `traceparent`; None where none was stored."""
    parts = parent.split("-")
    return parts[1] if len(parts) == 4 else None


def traceparent() -> str:
    """The current W3C `traceparent`, empty outside of any trace: stored with whatever is continued later."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


def exports_traces() -> bool:
    """Whether spans leave this process. Else none is recorded."""
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(os.environ.get(name) for name in names)


def exports_metrics() -> bool:
    """Whether metrics and log records leave this process by OTLP."""
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


def seconds_between_exports() -> float:
    """Of metrics."""
    return float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "60000")) / 1000


def business_event(name: str, **facts: str | float) -> None:
    """An OpenTelemetry event for whoever collects log records that way, redacted as they all are. It is no line of its
    own: what it tells, a record says already."""
    if exports_metrics():
        _records.emit(event_name=name, body=name, severity_number=SeverityNumber.INFO, attributes=redact(facts))


def context_of(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """A request's place in its caller's trace, or in a new one, where its span is not recorded: making one that only
    passes ids on costs as much as all else that the edge does."""
    carrier: dict[str, str] = {}
    for name, value in headers:
        if name in _PROPAGATED:
            carrier.setdefault(name.decode(), value.decode("latin-1"))
    callers = propagate.extract(carrier) if carrier else Context()
    parent = trace.get_current_span(callers).get_span_context()
    own = trace.SpanContext(
        trace_id=parent.trace_id if parent.is_valid else _IDS.generate_trace_id(),
        span_id=_IDS.generate_span_id(),
        is_remote=False,
        trace_state=parent.trace_state,
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(own), callers)


@contextmanager
def continued(parent: str) -> Generator[None]:
    """Work that belongs to the trace `parent` (a stored `traceparent`), though another task or process began it."""
    token = context.attach(propagate.extract({"traceparent": parent})) if parent else None
    try:
        yield
    finally:
        if token is not None:
            context.detach(token)


def told_of(*, tenant: str, tenant_name: str = "", **more: str) -> AbstractContextManager[None]:
    """Whatever is logged meanwhile, also by tasks begun meanwhile, says whom and what it is about; so does the span."""
    names = {"tenant": tenant, **({"tenant_name": tenant_name} if tenant_name else {}), **more}
    trace.get_current_span().set_attributes(names)
    return structlog.contextvars.bound_contextvars(**names)


class _Lines:
    """Standard output, a batch at a time: nobody on the hot path waits for a pipe."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._wake = threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        atexit.register(self.flush)

    def msg(self, line: bytes) -> None:
        self._waiting.append(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
            self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    debug = info = warning = error = critical = msg

    def flush(self) -> None:
        with self._writing:
            count = len(self._waiting)
            if count:
                sys.stdout.buffer.write(b"\n".join(self._waiting.popleft() for _ in range(count)) + b"\n")
                sys.stdout.buffer.flush()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._wake.wait()
            self._wake.clear()
            self.flush()
            pause.wait(0.1)  # what comes meanwhile is written together


_lines = _Lines()


def _add_trace(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = format(span.trace_id, "032x")
        event["span_id"] = format(span.span_id, "016x")
    return event


def _to_otel(_logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The same record as an OpenTelemetry log record, for whoever collects logs that way."""
    _records.emit(
        timestamp=time.time_ns(),
        severity_number=_SEVERITY.get(name, SeverityNumber.INFO),
        severity_text=name,
        body=event["event"],
        attributes={key: _plain(value) for key, value in event.items() if key not in {"event", "level", "exc_info"}},
    )
    return event


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else orjson.dumps(value, default=str).decode()


_SEVERITY = {
    "debug": SeverityNumber.DEBUG,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}


def setup(service: str, *, instance: str = "", level: str = "INFO", spelt: Sequence[str] = ()) -> None:
    """Configure this process once, from `main`. `instance` tells it from other replicas. `spelt` are the metrics whose
    names leave as they are spelt: OpenTelemetry's know no case, and its SDK writes them small."""
    # Replicas count apart: two that tell of one instance's counters would overwrite each other's.
    resource = Resource.create(
        {"service.name": os.environ.get("OTEL_SERVICE_NAME", service), "service.instance.id": instance}
    )
    provider = tracer_provider(resource)
    trace.set_tracer_provider(provider)
    _setup_logs(service, level)
    if not exports_traces():
        return
    from chassis import exporters  # noqa: PLC0415  only here is it worth its memory

    provider.add_span_processor(exporters.spans())
    if exports_metrics():
        exporters.export_metrics(resource, spelt)
        exporters.export_logs(resource)


def tracer_provider(resource: Resource) -> TracerProvider:
    """What of the traces that begin here is recorded, `OTEL_TRACES_SAMPLER` says: all, where it says nothing."""
    return TracerProvider(resource=resource, sampler=None if exports_traces() else ALWAYS_OFF)


def _setup_logs(service: str, level: str) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            # Without local variables: they hold tokens and addresses.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            redact_record,
            lambda _logger, _name, event: {**event, "service": service},
            _add_trace,
            structlog.processors.add_log_level,
            *([_to_otel] if exports_metrics() else []),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _lines,
        cache_logger_on_first_use=True,
    )
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its warnings cite a caller's headers, and go to standard error as they are.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)


def _dumps(event: Any, **_: Any) -> bytes:
    return orjson.dumps(event, default=str)
