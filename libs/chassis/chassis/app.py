"""The application every service is: edge middleware, problems, probes, and a lifespan that a list of parts makes up."""

import asyncio
import contextlib
import gc
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import health, problems, telemetry
from chassis.db import Database
from chassis.edge.auth import Access, Rules
from chassis.edge.limiter import Limiter
from chassis.edge.middleware import Edge, SecurityHeaders
from chassis.edge.routes import PROBLEM_RESPONSE, operation_id, refused
from chassis.edge.rules import OF_DAPR, Book
from chassis.edge.tokens import Tokens, keys_of
from chassis.health import Check
from chassis.lifespan import Lifespan, Start
from chassis.problems import Problem
from chassis.settings import ServiceSettings
from chassis.sidecar import Sidecar

log = structlog.get_logger()

# How long a thread may keep the interpreter while another waits for it. With Python's own 5 ms the loop and the SQLite
# writer make each other wait longer than a whole transaction takes.
_SWITCH_SECONDS = 0.0005

_NOT_STARTED = 3  # as uvicorn exits by itself


def create_app(
    *,
    title: str,
    settings: ServiceSettings,
    sidecar: Sidecar,
    rules: Rules,
    start: Start | None = None,
    checks: Mapping[str, Check],
    refusals: Mapping[type[Exception], Problem],
) -> FastAPI:
    """A FastAPI application with the edge, problems, probes and tracing; the service adds its routes.

    What `rules` doesn't name can't be reached. `start` starts what the service is made of.
    """
    book = Book(rules)

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncGenerator[None]:
        async with Lifespan() as lifespan:
            if start is not None:
                await start(lifespan)
            log.info("service.started", port=settings.app_port)
            yield
        log.info("service.stopped")

    app = _Service(
        book,
        title=title,
        version="1",
        lifespan=running,
        responses={"default": PROBLEM_RESPONSE},
        redirect_slashes=False,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        generate_unique_id_function=operation_id,
        telemetry=_TELEMETRY,
    )
    # Called when the process is told to stop, before it waits for requests under way.
    app.state.leaving = []
    app.state.checks = checks
    health.router.add_to(app)
    problems.install(app, refusals)
    _add_edge(app, book, sidecar, settings)
    return app


def _add_edge(app: FastAPI, book: Book, sidecar: Sidecar, settings: ServiceSettings) -> None:
    """From the innermost layer to the outermost."""
    if unknown := set(settings.rate_limits) - set(book.rules):
        raise ValueError(f"RATE_LIMITS names routes that are not here: {', '.join(sorted(unknown))}")
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, seconds=settings.body_seconds)
    tokens = Tokens(keys=keys_of(settings, sidecar), settings=settings)
    limiter = Limiter(sidecar=sidecar, settings=settings)
    app.add_middleware(Edge, book=book, tokens=tokens, limiter=limiter, settings=settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=True,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID", "Prefer"],
            expose_headers=_EXPOSED,
            max_age=600,
        )
    app.add_middleware(SecurityHeaders)


# FastAPI's own spans, one a request; the edge keeps the metrics, of refused requests too. Its log records would carry
# exception messages, and with them data.
_TELEMETRY: TelemetryConfig = {
    "logs": False,
    "metrics": False,
    "operation_spans": False,
    "exclude": lambda scope: scope["path"] == "/health/live",
}

_LONGEST_LENGTH = 18  # digits of a Content-Length that are looked at

_DISCARDED_BODIES = 8  # so many times the limit is read and thrown away, for the sake of an answer; more is hung up on

_EXPOSED = ["Location", "Idempotency-Replayed", "Retry-After", "RateLimit", "RateLimit-Policy", "Deprecation", "Sunset"]


class _Service(FastAPI):
    """FastAPI's document, with what it can't know: the rules, and problems that are not `application/json`."""

    def __init__(self, book: Book, **known: Any) -> None:
        self._book = book
        super().__init__(**known)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is not None:
            return self.openapi_schema
        for route in self.routes:
            if isinstance(route, APIRoute) and route.path.startswith(OF_DAPR):
                route.include_in_schema = False
        document = super().openapi()
        parts = document.setdefault("components", {})
        schema = problems.ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        nested = schema.pop("$defs")
        parts.setdefault("schemas", {}).update(ProblemDocument=schema, **nested)
        parts["securitySchemes"] = _SCHEMES
        reachable = {path: self._reachable(path, operations) for path, operations in document["paths"].items()}
        document["paths"] = {path: operations for path, operations in reachable.items() if operations}
        return document

    def _reachable(self, path: str, operations: dict[str, Any]) -> dict[str, Any]:
        ruled = {method: self._book.rules.get(f"{method.upper()} {path}") for method in operations}
        for method, access in ruled.items():
            if access is not None:
                _describe_access(operations[method], access)
        return {method: operations[method] for method, access in ruled.items() if access is not None}


_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "sidecar": {"type": "apiKey", "in": "header", "name": "dapr-api-token", "description": "known to our sidecar only"},
}


def _describe_access(operation: dict[str, Any], access: Access) -> None:
    refusals: dict[int, str] = {}
    match access:
        case Access.PROBE:
            pass
        case Access.SIDECAR:
            operation["security"] = [{"sidecar": []}]
            refusals = {401: "unauthenticated"}
        case Access.PUBLIC | Access.SIGNED:
            refusals = {429: "rate-limited"}
        case _:
            operation["security"] = [{"bearer": []}]
            refusals = {
                401: "unauthenticated",
                403: f"role-missing ({access.role}), tenant-missing",
                429: "rate-limited",
                503: "issuer-unavailable, rate-limiter-unavailable",
            }
    if "requestBody" in operation:
        refusals |= {400: "malformed-json", 408: "body-too-slow", 413: "body-too-large"}
    operation["x-access"] = access.name.lower()
    for status, response in refused(refusals).items():
        known = operation["responses"].setdefault(str(status), response)
        if known is not response:
            known["description"] += f"; {refusals[int(status)]}"


class BodyLimit:
    """Refuses a body that is too large, or too slow in coming."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float) -> None:
        self._app = app
        self._max = max_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared[:_LONGEST_LENGTH]) > self._max:
            await _discard(receive, up_to=_DISCARDED_BODIES * self._max, within=self._seconds)
            raise _too_large()
        await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        seen, whole, deadline = 0, False, time.monotonic() + self._seconds

        async def counting() -> Message:
            nonlocal seen, whole
            if whole:  # what is awaited now is the caller's hanging up, however late
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "Body too slow", headers={"Connection": "close"}) from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > self._max:
                raise _too_large()
            return message

        return counting


def _too_large() -> HTTPException:
    """An HTTPException: anything else raised while FastAPI reads a body becomes a 400."""
    return HTTPException(413, "Body too large", headers={"Connection": "close"})


async def _discard(receive: Receive, *, up_to: int, within: float) -> None:
    """Read what is still coming: a connection closed over unread bytes is reset, and the answer with it."""
    seen = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while seen <= up_to:
                message = await receive()
                seen += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def serve(app: FastAPI, settings: ServiceSettings, *, service: str) -> None:
    """Run `app` until SIGTERM or SIGINT; requests under way are answered first."""
    telemetry.setup(service, level=settings.log_level)
    sys.setswitchinterval(_SWITCH_SECONDS)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.app_port,
        loop="uvloop",
        ws="none",
        http="httptools",
        access_log=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        log_level="warning",
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,
        server_header=False,
    )
    server = _Server(config, leaving=app.state.leaving)
    server.run()
    if not server.started:
        sys.exit(_NOT_STARTED)


class _Server(uvicorn.Server):
    """Tells streams, which would keep it for its whole grace, that the process is to stop."""

    def __init__(self, config: uvicorn.Config, *, leaving: list[Callable[[], None]]) -> None:
        super().__init__(config)
        self._leaving = leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What start-up made stays: the collector need not walk it again with every full collection.
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for tell in self._leaving:
            tell()
        await super().shutdown(sockets)


def database_check(db: Database) -> Check:
    return Check(probe=db.ping, required=True)
