"""The application every service is: edge middleware, problems, probes, and a lifespan that a list of parts makes up."""

import gc
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import problems, telemetry
from chassis.db import Database
from chassis.health import Check, health_routes
from chassis.problems import Problem
from chassis.settings import ServiceSettings

log = structlog.get_logger()

# How long a thread may keep the interpreter while another waits for it. With Python's own 5 ms the loop and the SQLite
# writer make each other wait longer than a whole transaction takes.
_SWITCH_SECONDS = 0.0005

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


def create_app(
    *,
    title: str,
    settings: ServiceSettings,
    lifespan: Lifespan,
    checks: Mapping[str, Check],
    refusals: Mapping[type[Exception], Problem],
) -> FastAPI:
    """A FastAPI application with problems, probes, a body limit and tracing; the service adds its routers."""

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncGenerator[None]:
        async with lifespan():
            # What start-up made stays: the collector need not walk it again with every full collection.
            gc.collect()
            gc.freeze()
            log.info("service.started", port=settings.app_port)
            yield
        log.info("service.stopped")

    app = _Service(
        title=title,
        version="1",
        lifespan=running,
        responses={"default": PROBLEM_RESPONSE},
        generate_unique_id_function=lambda route: route.name,
        telemetry=_TELEMETRY,
    )
    app.include_router(health_routes(checks))
    problems.install(app, refusals)
    app.add_middleware(Boundary, max_bytes=settings.max_body_bytes)
    return app


# FastAPI's own spans and metrics, one a request. Its log records would carry exception messages, and with them data.
_TELEMETRY: TelemetryConfig = {
    "logs": False,
    "operation_spans": False,
    "exclude": lambda scope: scope["path"] == "/health/live",
}

_DISCARDED_BODIES = 8  # so many times the limit is read and thrown away, for the sake of an answer; more is hung up on

_PROBLEM_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}

PROBLEM_RESPONSE: dict[str, Any] = {"description": "A problem document (RFC 9457)", "content": _PROBLEM_CONTENT}


_RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}


def refused(error_types: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """A route's refusals for OpenAPI: each status with the error types that it can carry."""
    return {
        status: {
            "description": f"Refused: {names}",
            "content": _PROBLEM_CONTENT,
            **({"headers": _RETRY_AFTER} if status == 503 else {}),
        }
        for status, names in error_types.items()
    }


class _Service(FastAPI):
    """FastAPI would announce problems as `application/json`; so they are referred to, and their schema added here."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        schema = problems.ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        parts = schema.pop("$defs")
        document.setdefault("components", {}).setdefault("schemas", {}).update(ProblemDocument=schema, **parts)
        return document


class Boundary:
    """The outermost layer of ours: refuses a body over the limit, and lets no unexpected error out but as a problem."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > self._max:
            await _discard(receive, up_to=_DISCARDED_BODIES * self._max)
            await problems.respond(problems.of(self._too_large()), instance=scope["path"])(scope, receive, send)
            return
        await self._run(scope, self._counted(receive), send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = False

        async def noting(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if answering:
                raise
            await problems.respond(problems.of(error), instance=scope["path"])(scope, receive, send)

    def _counted(self, receive: Receive) -> Callable[[], Awaitable[Message]]:
        seen = 0

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max:
                raise self._too_large()
            return message

        return counting

    def _too_large(self) -> HTTPException:
        """An HTTPException: anything else raised while FastAPI reads a body becomes a 400."""
        return HTTPException(413, "Body too large", headers={"Connection": "close"})


async def _discard(receive: Receive, *, up_to: int) -> None:
    """Read what is still coming: a connection closed over unread bytes is reset, and the answer with it."""
    seen = 0
    while seen <= up_to:
        message = await receive()
        seen += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


def serve(app: FastAPI, settings: ServiceSettings, *, service: str) -> None:
    """Run `app` until SIGTERM or SIGINT; requests under way are answered first."""
    telemetry.setup(service, level=settings.log_level)
    sys.setswitchinterval(_SWITCH_SECONDS)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.app_port,
        loop="uvloop",
        ws="none",
        http="httptools",
        access_log=False,
        proxy_headers=False,
        log_level="warning",
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,
        server_header=False,
    )


def database_check(db: Database) -> Check:
    return Check(probe=db.ping, required=True)
