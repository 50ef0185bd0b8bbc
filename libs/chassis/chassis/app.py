"""The application every service is: edge middleware, problems, probes, and a lifespan that a list of parts makes up."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.telemetry import TelemetryConfig

from chassis import cache_clear, explorer, ops, problems
from chassis import health as probes
from chassis.cache import Cache
from chassis.edge.auth import Rules
from chassis.edge.body import BodyLimit
from chassis.edge.limiter import Limiter
from chassis.edge.middleware import Edge, SecurityHeaders
from chassis.edge.routes import PROBLEM_RESPONSE, Direct, operation_id
from chassis.edge.rules import Book
from chassis.edge.tokens import Tokens, keys_of
from chassis.health import Health
from chassis.lifespan import Lifespan, Start
from chassis.openapi import Service
from chassis.ops import Ops
from chassis.outbox import Outbox
from chassis.problems import Problem
from chassis.settings import ServiceSettings
from chassis.sidecar import Sidecar
from chassis.telemetry import exports_traces

log = structlog.get_logger()


def create_app(
    *,
    title: str,
    settings: ServiceSettings,
    sidecar: Sidecar,
    rules: Rules,
    start: Start | None = None,
    health: Health,
    refusals: Mapping[type[Exception], Problem],
    caches: Sequence[Cache] = (),
    outbox: Outbox | None = None,
) -> FastAPI:
    """A FastAPI application with the edge, problems, probes and tracing; the service adds its routes.

    What `rules` doesn't name can't be reached. `start` starts what the service is made of. `caches` are those that an
    admin may clear, `outbox` the one whose queue staff is told of.
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

    app = Service(
        book,
        title=title,
        version="1",
        lifespan=running,
        responses={"default": PROBLEM_RESPONSE},
        redirect_slashes=False,
        docs_url=None,  # chassis.explorer
        redoc_url=None,
        generate_unique_id_function=operation_id,
        telemetry={**_TELEMETRY, "tracing": exports_traces()},
    )
    # Called when the process is told to stop, before it waits for requests under way.
    app.state.leaving = []
    app.state.health = health
    app.state.caches = caches
    app.state.ops = Ops(settings=settings, sidecar=sidecar, outbox=outbox)
    app.state.handled = app.state.ops.handled
    for resource in (probes, ops, explorer, cache_clear):
        resource.router.add_to(app)
    problems.install(app, refusals)
    _add_edge(app, book, sidecar, settings, refusals)
    return app


def _add_edge(
    app: FastAPI, book: Book, sidecar: Sidecar, settings: ServiceSettings, refusals: Mapping[type[Exception], Problem]
) -> None:
    """From the innermost layer to the outermost."""
    if unknown := set(settings.rate_limits) - set(book.rules):
        raise ValueError(f"Rate limits of routes that are not here: {', '.join(sorted(unknown))}")
    app.add_middleware(Direct, routes=app.router.routes)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        seconds=settings.body_seconds,
        by_route=settings.large_bodies,
    )
    tokens = Tokens(keys=keys_of(settings, sidecar), settings=settings)
    limiter = Limiter(sidecar=sidecar, settings=settings)
    app.add_middleware(Edge, book=book, tokens=tokens, limiter=limiter, settings=settings, refusals=refusals)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
            max_age=600,
        )
    app.add_middleware(SecurityHeaders)


# FastAPI's own spans, one a request where they leave the process; the edge keeps the metrics, of refused requests too.
# Its log records would carry exception messages, and with them data.
_TELEMETRY: TelemetryConfig = {
    "logs": False,
    "metrics": False,
    "operation_spans": False,
    "exclude": lambda scope: scope["path"] == "/health/live",
}

_EXPOSED = ["Location", "Idempotency-Replayed", "Retry-After", "RateLimit", "RateLimit-Policy", "Deprecation", "Sunset"]
