"""Where spans and log lines are asked for: the receiver that `make up` starts, or Tempo. Read straight from the store,
as telemetry leaves straight for it: what is broken between sidecars must not hide it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol, TypeVar

import aiohttp
from pydantic import AfterValidator, Field, JsonValue, ValidationError

from backoffice.domain import NoMap, TraceNotFound, TracesNotConfigured
from chassis.problems import Unavailable
from chassis.redaction import redact
from chassis.wire import Wire

_SECONDS = 5.0  # a person waits

# Sidecars write spans too, and another store may hold other programs' log lines: nobody has looked at those yet.
Attributes = Annotated[dict[str, JsonValue], AfterValidator(redact)]
Text = Annotated[str, AfterValidator(redact)]


class Span(Wire):
    """`parent` and `tenant` are empty where there is none."""

    span: str
    parent: str
    service: str
    name: Text
    kind: str
    start: datetime
    duration_ms: float
    status: Literal["ok", "error"]
    tenant: str = ""
    attributes: Attributes = Field(default={})


class LogLine(Wire):
    service: str
    span: str
    at: datetime
    level: str
    name: Text
    tenant: str = ""
    attributes: Attributes = Field(default={})


class Trace(Wire):
    """Both by time."""

    spans: list[Span]
    logs: list[LogLine] = Field(default=[])


class Edge(Wire):
    """Calls, or events that were heard: then the times are those of their handling."""

    caller: str
    callee: str
    kind: Literal["call", "event"]
    count: int
    errors: int
    p50_ms: float
    p95_ms: float


class Traces(Protocol):
    async def by_trace(self, trace_id: str) -> Trace:
        """Raises TracesNotConfigured, TraceNotFound, Unavailable."""
        ...

    async def edges(self, *, minutes: int, tenant: str) -> list[Edge]:
        """Of the last minutes; of all tenants where none is named. Raises TracesNotConfigured, NoMap, Unavailable."""
        ...


def traces_of(setting: str) -> Traces:
    """`receiver:<url>`, `tempo:<url>`, or empty."""
    kind, _, url = setting.partition(":")
    return {"receiver": Receiver, "tempo": Tempo}[kind](url.rstrip("/")) if setting else NotConfigured()


def seen_by(trace: Trace, tenant: str) -> Trace:
    """What a tenant may see of it. Whoever calls names the trace, so one id may hold several tenants' work: then each
    sees only what says that it is its own. Raises TraceNotFound where nothing is."""
    named = {part.tenant for part in (*trace.spans, *trace.logs)} - {""}
    if tenant not in named:
        raise TraceNotFound
    if named == {tenant}:
        return trace
    return Trace(
        spans=[span for span in trace.spans if span.tenant == tenant],
        logs=[line for line in trace.logs if line.tenant == tenant],
    )


class NotConfigured:
    async def by_trace(self, trace_id: str) -> Trace:  # noqa: ARG002  as the port has it
        raise TracesNotConfigured

    async def edges(self, *, minutes: int, tenant: str) -> list[Edge]:  # noqa: ARG002
        raise TracesNotConfigured


class Receiver:
    """`stack.otlp.receiver`."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def by_trace(self, trace_id: str) -> Trace:
        return _read(Trace, await _get(f"{self._url}/api/traces/{trace_id}"))

    async def edges(self, *, minutes: int, tenant: str) -> list[Edge]:
        found = await _get(f"{self._url}/api/edges", {"minutes": str(minutes), "tenant": tenant})
        return _read(_Map, found).edges


class _Map(Wire):
    edges: list[Edge]


class Tempo:
    """Grafana Tempo's query API: https://grafana.com/docs/tempo/latest/api_docs/. It has no log lines, and no map."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def by_trace(self, trace_id: str) -> Trace:
        found = _read(_Batches, await _get(f"{self._url}/api/traces/{trace_id}"))
        spans = [
            span.told_as_span(batch.resource.told().get("service.name", "unknown"))
            for batch in found.batches
            for scope in batch.scope_spans
            for span in scope.spans
        ]
        if not spans:
            raise TraceNotFound
        return Trace(spans=sorted(spans, key=lambda span: span.start))

    async def edges(self, *, minutes: int, tenant: str) -> list[Edge]:  # noqa: ARG002
        raise NoMap


class _Attribute(Wire):
    key: str
    value: dict[str, JsonValue] = Field(default={})


class _Told(Wire):
    attributes: list[_Attribute] = Field(default=[])

    def told(self) -> dict[str, Any]:
        return {each.key: next(iter(each.value.values()), "") for each in self.attributes}


class _Status(Wire):
    code: int | str = 0


class _OtlpSpan(_Told):
    """As protobuf's JSON has it, or as OTLP's: enumerations are names or numbers, ids base64 or hex."""

    span_id: str
    parent_span_id: str = ""
    name: str = ""
    kind: int | str = 0
    start_time_unix_nano: int
    end_time_unix_nano: int
    status: _Status = Field(default=_Status())

    def told_as_span(self, service: str) -> Span:
        told = self.told()
        kind = _KINDS[self.kind] if isinstance(self.kind, int) and 0 <= self.kind < len(_KINDS) else str(self.kind)
        return Span(
            span=self.span_id,
            parent=self.parent_span_id,
            service=service,
            name=self.name,
            kind=kind.removeprefix("SPAN_KIND_").lower(),
            start=datetime.fromtimestamp(self.start_time_unix_nano / 1e9, UTC),
            duration_ms=max(0, self.end_time_unix_nano - self.start_time_unix_nano) / 1e6,
            status="error" if self.status.code in (2, "STATUS_CODE_ERROR") else "ok",
            tenant=str(told.pop("tenant", "")),
            attributes=told,
        )


_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


class _Scope(Wire):
    spans: list[_OtlpSpan] = Field(default=[])


class _Batch(Wire):
    resource: _Told = Field(default=_Told())
    scope_spans: list[_Scope] = Field(default=[])


class _Batches(Wire):
    batches: list[_Batch] = Field(default=[])


_Shape = TypeVar("_Shape", bound=Wire)


def _read(shape: type[_Shape], answer: bytes) -> _Shape:
    try:
        return shape.model_validate_json(answer)
    except ValidationError:
        raise Unavailable("traces") from None


async def _get(url: str, asked: Mapping[str, str] | None = None) -> bytes:
    """Raises TraceNotFound, Unavailable."""
    wanted = {"Accept": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS), headers=wanted) as session,
            session.get(url, params=asked, allow_redirects=False) as answer,
        ):
            if answer.status == 404:
                raise TraceNotFound
            if answer.status != 200:
                raise Unavailable("traces")
            return await answer.read()
    except (aiohttp.ClientError, TimeoutError):
        raise Unavailable("traces") from None
