"""The Dapr sidecar: one long-lived aiohttp client for invocation, state, pub/sub, workflows and jobs.

Measured through two sidecars on 2 cores: the HTTP client costs more than they do, and aiohttp a third of httpx.
Retries, time-outs and breakers are the sidecar's, declared in components/resiliency.yaml; none are here.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from time import monotonic
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
import orjson
import structlog
from opentelemetry import propagate
from opentelemetry.trace import SpanKind

from chassis.ids import new_id, now
from chassis.problems import Unavailable
from chassis.telemetry import tracer

log = structlog.get_logger()

_CALL_SECONDS = 60  # a last resort: the declared policies end every call long before
_CHECK_EVERY = 1.0

# How Dapr says that its breaker let nothing through, open or half-open, and how soon: the first declared retry comes
# after 0.25 s at the earliest, and a breaker that opens between two of them says the same (measured on 1.18.2).
_HELD_BACK = ("circuit breaker is open", "too many requests")
_BEFORE_ANY_RETRY = 0.2


# How every code of Dapr's own begins; an `errorCode` of another kind is the callee's.
_CODES_OF_DAPR = ("ERR_", "DAPR_")

# A 4xx that is no last word: too slow, still under way, too early, too many.
_NOT_FINAL = frozenset({408, 409, 425, 429})


class Verdict(StrEnum):
    """What an answer says of what was asked for, before its body is read. In doubt UNKNOWN."""

    ANSWERED = "2xx: the body says what came of it"
    REFUSED = "the callee's own 4xx: not done, and never to be"
    NOT_SENT = "nobody was asked"
    UNKNOWN = "it may have been done, or may yet be"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back through the sidecar. `data` is the parsed JSON body, None where there is none or it is no JSON;
    `seconds` is how long it took; `retry_after` is that header as it came, empty where there was none."""

    status: int
    data: Any
    seconds: float = field(default=0.0, compare=False)
    retry_after: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.from_sidecar:
            return Verdict.NOT_SENT if self.never_sent else Verdict.UNKNOWN
        if 200 <= self.status < 300:
            return Verdict.ANSWERED
        return Verdict.REFUSED if 400 <= self.status < 500 and self.status not in _NOT_FINAL else Verdict.UNKNOWN

    @property
    def from_sidecar(self) -> bool:
        """An error of Dapr's own, no word of the callee's; not even "breaker open" proves that nothing was sent."""
        code = cast("dict[str, Any]", self.data).get("errorCode") if isinstance(self.data, dict) else None
        return isinstance(code, str) and code.startswith(_CODES_OF_DAPR)

    @property
    def never_sent(self) -> bool:
        """The breaker was open before the first attempt: nobody was asked. In doubt False."""
        return self.held_back and self.seconds < _BEFORE_ANY_RETRY

    @property
    def held_back(self) -> bool:
        """The breaker is open, or has opened between two attempts: it is the sidecar that asks nobody any more."""
        if not self.from_sidecar or self.data["errorCode"] != "ERR_DIRECT_INVOKE":
            return False
        return str(self.data.get("message", "")).endswith(_HELD_BACK)


class SidecarDown(Unavailable):
    """No answer from the sidecar, or none that can be understood."""

    def __init__(self, what: str = "sidecar") -> None:
        super().__init__(what)


class Sidecar:
    def __init__(self, *, port: int, source: str, api_token: str = "") -> None:
        self.source = source
        self._base = f"http://127.0.0.1:{port}"
        self._headers = {"dapr-api-token": api_token} if api_token else {}
        self._session: aiohttp.ClientSession | None = None
        self._checking: asyncio.Task[None] | None = None
        self.alive = False

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            base_url=self._base,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=_CALL_SECONDS),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            json_serialize=lambda value: orjson.dumps(value).decode(),
        )
        await self._check()
        self._checking = asyncio.create_task(self._check_for_ever(), name="sidecar-check")

    async def stop(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        if self._session is not None:
            await self._session.close()

    def require(self) -> None:
        """Refuse before anything is written when the last check found no sidecar."""
        if not self.alive:
            raise SidecarDown

    async def invoke(
        self,
        app_id: str,
        method: str,
        body: Any = None,
        *,
        verb: str = "POST",
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        private: bool = False,
    ) -> Answer:
        """Call an app, or an HTTPEndpoint, by name. Every status is a value; SidecarDown when nothing came back.

        `form` is sent form-encoded in place of a JSON `body`. Nothing of a `private` body is recorded.
        """
        payload = body if form is None else form
        self._record("call", f"{app_id}/{method.partition('?')[0]}", None if private else payload)
        name, peer = f"invoke {app_id}/{method.partition('?')[0]}", {"peer.service": app_id}
        with tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=peer) as span:
            answer = await self._send(verb, f"/v1.0/invoke/{app_id}/method/{method}", body, headers, form)
            span.set_attribute("http.response.status_code", answer.status)
            return answer

    async def publish(self, pubsub: str, topic: str, events: list[dict[str, Any]]) -> dict[str, str]:
        """Publish whole CloudEvents in one bulk; the ids of those that failed, each with its error.

        A broker with partitions keeps those of one subject in one of them, and so in order; others pass the key over.
        """
        entries = [
            {
                "entryId": event["id"],
                "event": event,
                "contentType": "application/cloudevents+json",
                "metadata": {"partitionKey": event["subject"]},
            }
            for event in events
        ]
        answer = await self._send("POST", f"/v1.0/publish/bulk/{pubsub}/{topic}", entries)
        if answer.status >= 400 and not _failed_entries(answer.data):
            raise SidecarDown("broker")
        failed = {entry["entryId"]: str(entry.get("error", "")) for entry in _failed_entries(answer.data)}
        for event in events:
            if event["id"] not in failed:
                self._record(event["type"], topic, event["data"], event_id=event["id"], parent=event.get("traceparent"))
        return failed

    async def probe_broker(self, pubsub: str, topic: str) -> None:
        """Publish one word, and no CloudEvent. SidecarDown when the broker has not taken it."""
        answer = await self._send("POST", f"/v1.0/publish/{pubsub}/{topic}?metadata.rawPayload=true", "ok")
        if answer.status >= 400:
            raise SidecarDown("broker")

    async def get_state(self, store: str, key: str) -> tuple[Any, str]:
        """The value and its ETag; None and "" where there is none."""
        session = self._opened()
        try:
            async with session.get(f"/v1.0/state/{store}/{key}") as response:
                if response.status in {204, 404}:
                    return None, ""
                if response.status != 200:
                    raise SidecarDown(store)
                return orjson.loads(await response.read()), response.headers.get("ETag", "")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SidecarDown from error

    async def insert_state(self, store: str, key: str, value: Any, *, ttl_seconds: int) -> bool:
        """Write a key that must not exist. False when the store refused: read it then, and decide (Dapr answers 500
        both for "exists" and for "down", so only the read tells which)."""
        return await self._save_state(store, {"key": key, "value": value}, ttl_seconds)

    async def update_state(self, store: str, key: str, value: Any, etag: str, *, ttl_seconds: int) -> bool:
        """Write over the version named by `etag`; False when it has changed meanwhile, or nothing could be written."""
        return await self._save_state(store, {"key": key, "value": value, "etag": etag}, ttl_seconds)

    async def save_state(self, store: str, key: str, value: Any, *, ttl_seconds: int) -> None:
        """Write a key, whatever it held: the last one wins. SidecarDown when the store refused."""
        entry = {"key": key, "value": value, "metadata": {"ttlInSeconds": str(ttl_seconds)}}
        answer = await self._send("POST", f"/v1.0/state/{store}", [entry])
        if answer.status not in {200, 201, 204}:
            raise SidecarDown(store)

    async def _save_state(self, store: str, entry: dict[str, Any], ttl_seconds: int) -> bool:
        options = {"options": {"concurrency": "first-write"}, "metadata": {"ttlInSeconds": str(ttl_seconds)}}
        answer = await self._send("POST", f"/v1.0/state/{store}", [entry | options])
        return answer.status in {200, 201, 204}

    async def delete_state(self, store: str, key: str, etag: str) -> bool:
        """Delete the version named by `etag`; False when it has changed meanwhile."""
        answer = await self._send("DELETE", f"/v1.0/state/{store}/{key}", headers={"If-Match": etag})
        return answer.status in {200, 204}

    async def secret(self, store: str, name: str) -> dict[str, str]:
        """A secret's values by key. Raises SidecarDown while neither sidecar nor store answers, or it isn't there."""
        answer = await self._send("GET", f"/v1.0/secrets/{store}/{name}")
        if answer.status != 200 or not isinstance(answer.data, dict):
            raise SidecarDown(store)
        return cast("dict[str, str]", answer.data)

    async def start_workflow(self, name: str, instance_id: str, argument: Any) -> None:
        """Start an instance; one that is running already is left alone."""
        answer = await self._send("POST", f"/v1.0/workflows/dapr/{name}/start?instanceID={instance_id}", argument)
        if answer.status >= 400 and not _already_there(answer):
            raise SidecarDown("workflow-engine")

    async def get_job(self, name: str) -> Any:
        answer = await self._send("GET", f"/v1.0/jobs/{name}")
        return answer.data if answer.status == 200 else None

    async def put_job(self, name: str, schedule: str) -> None:
        """Register a recurring job. It carries `data` because the scheduler can't deliver one without (1.18.2)."""
        answer = await self._send("POST", f"/v1.0/jobs/{name}", {"schedule": schedule, "data": name, "overwrite": True})
        if answer.status >= 400:
            raise SidecarDown("scheduler")

    async def metadata(self) -> dict[str, Any]:
        """What it tells of itself: version, components, subscriptions."""
        answer = await self._send("GET", "/v1.0/metadata")
        if answer.status != 200 or not isinstance(answer.data, dict):
            raise SidecarDown
        return cast("dict[str, Any]", answer.data)

    async def _send(
        self,
        verb: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        carrier = dict(headers or {})
        propagate.inject(carrier)
        content = None
        if body is not None:
            content = to_json(body)
            carrier["content-type"] = "application/json"
        if form is not None:
            content = urlencode(form).encode()
            carrier["content-type"] = "application/x-www-form-urlencoded"
        began = monotonic()
        try:
            async with self._opened().request(verb, path, data=content, headers=carrier) as response:
                data = _parsed(await response.read())
                retry_after = response.headers.get("Retry-After", "")
                return Answer(status=response.status, data=data, seconds=monotonic() - began, retry_after=retry_after)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SidecarDown from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise SidecarDown
        return self._session

    def _record(
        self, event_type: str, target: str, payload: Any, *, event_id: str = "", parent: str | None = None
    ) -> None:
        """The one `integration.event` record of a call or event between services; redacted as every record is."""
        log.info(
            "integration.event",
            EventId=event_id or new_id(),
            ServiceName=self.source,
            EventType=event_type,
            Payload=payload,
            Timestamp=now().isoformat(),
            Metadata={"target": target, **({"traceparent": parent} if parent else {})},
        )

    async def _check(self) -> None:
        try:
            async with self._opened().get("/v1.0/healthz/outbound", timeout=aiohttp.ClientTimeout(total=1)) as response:
                self.alive = response.status < 300
        except (aiohttp.ClientError, TimeoutError):
            self.alive = False

    async def _check_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            before = self.alive
            await self._check()
            if self.alive is not before:
                log.warning("sidecar.alive" if self.alive else "sidecar.down")


def to_json(body: Any) -> bytes:
    """A Decimal is a JSON number, digit for digit: 9.00 is no float on its way, and keeps its zeros."""
    return orjson.dumps(body, default=_number)


def _number(value: Any) -> orjson.Fragment:
    if not isinstance(value, Decimal) or not value.is_finite():
        raise TypeError(type(value).__name__)
    return orjson.Fragment(f"{value:f}")


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content) if content else None
    except orjson.JSONDecodeError:
        return None


def _failed_entries(data: Any) -> list[dict[str, Any]]:
    return cast("dict[str, Any]", data).get("failedEntries") or [] if isinstance(data, dict) else []


def _already_there(answer: Answer) -> bool:
    text = orjson.dumps(answer.data).decode().lower()
    return "already exists" in text or "already_exists" in text
