"""What the edge adds to a request: the order service's whole application against the same one inside of its edge.

In one process, without network or sidecar, so that nothing else is in the difference; taken in turns, so that both meet
the same machine. Logs are made as in production and written to nowhere.
"""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import orjson
from starlette.types import ASGIApp, Message, Scope

from chassis import telemetry
from chassis.auth import Caller, Role
from chassis.edge import Edge
from chassis.sidecar import Answer
from chassis.testing.fake_sidecar import FakeSidecar
from chassis.testing.issuer import Issuer
from order.app import create_app
from order.settings import Settings

_TIMES = {"GET /api/v1/catalog": 2000, "POST /api/v1/orders": 500}
_WARM = 50
_CALLER = Caller(tenant="default", tenant_name="Default", subject="u-1", roles=frozenset({Role.USER}))
_PAID = {"paymentId": "p-1", "status": "succeeded", "transactionId": "tx-1", "errorMessage": None}


async def measure(body: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By route: p50 milliseconds with the edge, without it, and what it adds."""
    async with _application() as (whole, issuer):
        inside = _inside(whole)
        bearer = [(name.lower().encode(), value.encode()) for name, value in issuer.bearer("user").items()]
        content = orjson.dumps(body)
        return {route: await _compared(route, whole, inside, bearer, content) for route in _TIMES}


@contextlib.asynccontextmanager
async def _application() -> AsyncGenerator[tuple[ASGIApp, Issuer]]:
    with tempfile.TemporaryDirectory() as made, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: ASYNC230, PTH123  once
        folder = Path(made)
        issuer = Issuer(folder)
        telemetry.setup("order-service")
        sidecar = FakeSidecar({"payment-service/process-payment": Answer(status=200, data=_PAID)})
        given = {"app_api_token": "of-nobody-anywhere", "auth_jwks_file": issuer.jwks_file}
        settings = Settings.model_validate(given | {"ORDER_DATABASE_URL": f"sqlite:///{folder}/order.db"})
        app = create_app(settings, sidecar=sidecar)
        async with app.router.lifespan_context(app):
            yield app.build_middleware_stack(), issuer


def _inside(whole: ASGIApp) -> ASGIApp:
    """What stands inside of the edge."""
    layer: Any = whole
    while not isinstance(layer, Edge):
        layer = getattr(layer, "app", None) or layer._app
    return cast("Any", layer)._app


async def _compared(
    route: str, whole: ASGIApp, inside: ASGIApp, bearer: list[tuple[bytes, bytes]], content: bytes
) -> dict[str, float]:
    took: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(_TIMES[route] + _WARM):
        for name, app in (("with", whole), ("without", inside)):
            took[name].append(await _timed(app, route, bearer, content))
    with_it, without = (statistics.median(took[name][_WARM:]) for name in ("with", "without"))
    return {"with_ms": round(with_it, 3), "without_ms": round(without, 3), "adds_ms": round(with_it - without, 3)}


async def _timed(app: ASGIApp, route: str, bearer: list[tuple[bytes, bytes]], content: bytes) -> float:
    method, path = route.split(" ")
    headers = [(b"host", b"bench"), (b"content-type", b"application/json"), *bearer]
    scope: Scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path}
    scope |= {"raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": headers, "scheme": "http"}
    scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {"caller": _CALLER}}
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": content if method == "POST" else b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    began = time.perf_counter()
    await app(scope, receive, send)
    took = (time.perf_counter() - began) * 1000
    assert status in {200, 201}, status
    return took
