"""What the edge adds to a request: the order service's whole application against the same one inside of its edge.

Taken in turns, so that both meet the same machine.
"""

import contextlib
import statistics
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import orjson
from fastapi import FastAPI
from in_process import Headers, encoded, layer_of, request, unheard
from starlette.types import ASGIApp

from chassis.edge.auth import Caller, Role
from chassis.edge.middleware import Edge
from chassis.sidecar import Answer
from order.app import create_app
from order.settings import Settings
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer

_TIMES = {"GET /api/v1/catalog": 2000, "POST /api/v1/orders": 500}
_WARM = 50
_CALLER = Caller(tenant="default", tenant_name="Default", subject="u-1", roles=frozenset({Role.USER}))
_PAID = {"paymentId": "p-1", "status": "succeeded", "transactionId": "tx-1", "errorMessage": None}


async def measure(body: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By route: p50 milliseconds with the edge, without it, and what it adds."""
    async with application() as (app, issuer):
        layers = app.build_middleware_stack()
        whole, inside = (layer_of(app, layer) for layer in (layers, _inside(layers)))
        bearer = encoded(issuer.bearer("user"))
        content = orjson.dumps(body)
        return {route: await _compared(route, whole, inside, bearer, content) for route in _TIMES}


@contextlib.asynccontextmanager
async def application() -> AsyncGenerator[tuple[FastAPI, Issuer]]:
    with tempfile.TemporaryDirectory() as made, unheard():
        folder = Path(made)
        issuer = Issuer(folder)
        sidecar = FakeSidecar({"payment-service/process-payment": Answer(status=200, data=_PAID)})
        given = {"app_api_token": "of-nobody-anywhere", "auth_jwks_file": issuer.jwks_file}
        settings = Settings.model_validate(given | {"ORDER_DATABASE_URL": f"sqlite:///{folder}/order.db"})
        app = create_app(settings, sidecar=sidecar)
        async with app.router.lifespan_context(app):
            yield app, issuer


def _inside(whole: ASGIApp) -> ASGIApp:
    """What stands inside of the edge."""
    layer: Any = whole
    while not isinstance(layer, Edge):
        layer = getattr(layer, "app", None) or layer._app
    return cast("Any", layer)._app


async def _compared(route: str, whole: ASGIApp, inside: ASGIApp, bearer: Headers, content: bytes) -> dict[str, float]:
    took: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(_TIMES[route] + _WARM):
        for name, app in (("with", whole), ("without", inside)):
            took[name].append(await _timed(app, route, bearer, content))
    with_it, without = (statistics.median(took[name][_WARM:]) for name in ("with", "without"))
    return {"with_ms": round(with_it, 3), "without_ms": round(without, 3), "adds_ms": round(with_it - without, 3)}


async def _timed(app: ASGIApp, route: str, bearer: Headers, content: bytes) -> float:
    answer = await request(app, route, bearer, content=content if route.startswith("POST") else b"", caller=_CALLER)
    assert answer.status in {200, 201}, answer.body
    return answer.ms
