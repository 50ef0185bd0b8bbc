"""The edge of every service: who may call, how often, and one log record for each request.

Nothing of a request is read before its rule is met: no body, and no route that has no rule.
"""

import hmac
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC
from email.utils import format_datetime
from urllib.parse import quote, unquote

import structlog
from opentelemetry.context import attach, detach
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import problems
from chassis.edge.auth import Access, Caller, require_operator
from chassis.edge.limiter import Limiter
from chassis.edge.routes import SLASH
from chassis.edge.rules import Book, Rule
from chassis.edge.tokens import Tokens, unauthenticated
from chassis.problems import Problem
from chassis.settings import Deprecated, ServiceSettings
from chassis.telemetry import context_of, exports_traces, meter, told_of

log = structlog.get_logger()

_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)

APP_TOKEN = b"dapr-api-token"
_AUTHORIZATION = b"authorization"

# As OpenTelemetry's conventions have them for this metric: the SDK's own begin at 5.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_duration = meter.create_histogram(
    "http.server.request.duration",
    unit="s",
    description="by route and status",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
_requests = meter.create_counter("edge.requests", description="by route, status, tenant and reason of refusal")

Headers = list[tuple[bytes, bytes]]
_NOTHING: Headers = []
_NO_MORE: Mapping[str, str] = {}
_UNAUTHENTICATED = "unauthenticated"  # in a route's place, for the limit of whoever has no name yet
_LONGEST_AGENT = 200
_OPEN = frozenset({Access.PROBE, Access.STATUS})
_OF_ANY_ROLE = frozenset({Access.STATUS, Access.GUEST})


class AnswerBroken(Exception):
    """An answer had begun and can't be ended; the server closes the connection, and so the caller knows."""


class Edge:
    def __init__(
        self,
        app: ASGIApp,
        *,
        book: Book,
        tokens: Tokens,
        limiter: Limiter,
        settings: ServiceSettings,
        refusals: Mapping[type[Exception], Problem],
    ) -> None:
        self._app = app
        self._refusals = refusals
        self._records_spans = exports_traces()  # then FastAPI makes one for each request
        self._book = book
        self._tokens = tokens
        self._limiter = limiter
        self._app_token = settings.app_api_token.encode()
        self._operator_tenant = settings.operator_tenant
        self._announced = {f"/api/{version}/": _announcement(one) for version, one in settings.deprecated.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # no rule can name one
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, scope, send = scope["method"], _routable(scope), _unless_head(scope, send)
        answering = _Answering(send, self._deprecation(scope["path"]))
        with ExitStack() as context:
            if not self._records_spans:
                context.callback(detach, attach(context_of(scope["headers"])))
            try:
                await self._admit(scope, answering, context)
                await self._app(scope, receive, answering.send)
            except Exception as error:  # noqa: BLE001  whatever it is, it becomes a problem
                problem = problems.of(error, self._refusals)
                if answering.status:
                    answering.refused = "answer-broken"
                    raise AnswerBroken from None  # the server logs what it gets, and doesn't redact it
                answering.refused = problem.error_type
                await problems.respond(problem, instance=problems.path_as_sent(scope))(scope, receive, answering.send)
            finally:
                answering.refused = answering.refused or scope.get("refused", "")
                answering.record(method, _raw_header(scope, b"user-agent"), scope.get("about", _NO_MORE))

    async def _admit(self, scope: Scope, answering: "_Answering", context: ExitStack) -> None:
        rule = answering.rule = self._book.find(scope["method"], scope["path"])
        scope["rule"] = rule.route
        if rule.access in _OPEN and not (rule.access is Access.STATUS and _raw_header(scope, _AUTHORIZATION)):
            return
        log.debug("request.begun", route=rule.route)
        match rule.access:
            case Access.SIDECAR:
                self._require_sidecar(scope)
            case Access.GUEST if not _raw_header(scope, _AUTHORIZATION):
                await self._limit(rule.route, answering, "address", _address(scope))
            case Access.PUBLIC | Access.SIGNED:
                await self._limit(rule.route, answering, "address", _address(scope))
            case _:
                caller = answering.caller = await self._caller(scope, answering)
                scope.setdefault("state", {})["caller"] = caller
                context.enter_context(
                    told_of(tenant=caller.tenant, tenant_name=caller.tenant_name, caller=caller.subject)
                )
                await self._limit(rule.route, answering, "caller", caller.tenant, caller.subject)
                if rule.access not in _OF_ANY_ROLE:
                    _require_role(caller, rule.access)
                if rule.access is Access.OPERATOR:
                    require_operator(caller, self._operator_tenant)

    async def _caller(self, scope: Scope, answering: "_Answering") -> Caller:
        try:
            return await self._tokens.caller(_only_header(scope, _AUTHORIZATION))
        except Problem as refusal:
            if refusal.status == 401:  # counted by address, over all routes
                await self._limit(_UNAUTHENTICATED, answering, "address", _address(scope))
            raise

    def _require_sidecar(self, scope: Scope) -> None:
        if not hmac.compare_digest(_raw_header(scope, APP_TOKEN), self._app_token):
            raise unauthenticated("Only the service's own sidecar may call this.", error="")

    async def _limit(self, route: str, answering: "_Answering", *who: str) -> None:
        if (verdict := await self._limiter.admit(route, *who)) is None:
            return
        if not verdict.allowed:
            raise verdict.refusal()
        answering.headers = answering.headers + _encoded(verdict.headers)

    def _deprecation(self, path: str) -> Headers:
        return next((headers for prefix, headers in self._announced.items() if path.startswith(prefix)), _NOTHING)


class _Answering:
    """What is known of the answer, and what is added to its headers."""

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send = send
        self._began = time.perf_counter()
        self.headers = headers
        self.rule: Rule | None = None
        self.caller: Caller | None = None
        self.status = 0
        self.refused = ""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.headers:
                message["headers"] = [*message.get("headers", ()), *self.headers]
        await self._send(message)

    def record(self, method: str, user_agent: bytes, about: Mapping[str, str]) -> None:
        took = time.perf_counter() - self._began
        route = self.rule.route if self.rule else f"{method} unknown"
        path = route.partition(" ")[2]
        tenant = self.caller.tenant if self.caller else ""
        labels = {"http.request.method": method, "http.route": path, "http.response.status_code": self.status}
        _duration.record(took, labels)
        _requests.add(1, labels | {"tenant": tenant, "refused": self.refused})
        if self.rule is not None and self.rule.access in _OPEN and self.status < 400:
            return
        log.info(
            "request",
            method=method,
            route=path,
            status=self.status,  # 0: the caller hung up before there was one
            duration_ms=round(took * 1000, 2),
            user_agent=user_agent[:_LONGEST_AGENT].decode("latin-1"),
            **({"tenant": tenant, "caller": self.caller.subject} if self.caller else {}),
            **({"refused": self.refused} if self.refused else {}),
            **about,
        )


def _require_role(caller: Caller, access: Access) -> None:
    role = access.role
    if role is None or not caller.may(role):
        raise Problem(
            status=403,
            error_type="role-missing",
            title="Not allowed",
            detail=f"The role {role} is missing.",
        )


def _routable(scope: Scope) -> Scope:
    """As the rules and the router read it: what `HEAD` asks for is what `GET` does, and a slash within a segment, which
    comes as %2F, is no end of it."""
    raw: bytes = scope.get("raw_path", b"")
    if b"%2f" in raw or b"%2F" in raw:
        scope = {**scope, "path": unquote(_ENCODED_SLASH.sub(quote(SLASH), raw.decode("ascii")))}
    return {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope


def _unless_head(scope: Scope, send: Send) -> Send:
    """For `HEAD` the answer is over with its headers, however long its body would be."""
    if scope["method"] != "HEAD":
        return send

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})

    return sending


def _raw_header(scope: Scope, name: bytes) -> bytes:
    return next((value for known, value in scope["headers"] if known == name), b"")


def _only_header(scope: Scope, name: bytes) -> str:
    """Of two, whoever stands before us may have looked at the other one."""
    values = [value for known, value in scope["headers"] if known == name]
    if len(values) > 1:
        raise unauthenticated("There is more than one Authorization header.", error="invalid_request")
    return values[0].decode("latin-1") if values else ""


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def _encoded(headers: Mapping[str, str]) -> Headers:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _announcement(version: Deprecated) -> Headers:
    told = {
        "Deprecation": f"@{int(version.since.timestamp())}",
        "Sunset": format_datetime(version.sunset.astimezone(UTC), usegmt=True),
    }
    if version.link:
        told["Link"] = f'<{version.link}>; rel="deprecation"'
    return _encoded(told)


class SecurityHeaders:
    """The outermost layer: what every answer tells a browser, a preflight's included."""

    _HEADERS = _encoded(
        {
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-site",
            "Strict-Transport-Security": "max-age=31536000; includeSubDomains",  # browsers heed it over TLS only
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # a page that loads has its own
        }
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                known: Headers = list(message.get("headers", ()))
                names = {name.lower() for name, _ in known}
                message["headers"] = known + [header for header in self._HEADERS if header[0] not in names]
            await send(message)

        await self._app(scope, receive, adding)
