"""A service's whole application in this process, without network, sidecar or server, and requests to it. Logs are made
as in production and written to nowhere."""

import contextlib
import os
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import telemetry

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    status: int
    body: bytes
    ms: float


async def request(
    app: ASGIApp, route: str, headers: Headers, *, query: str = "", content: bytes = b"", **state: Any
) -> Answered:
    """`route` as in "GET /api/v1/catalog"; `state` is what a layer outside of `app` would have left there."""
    method, path = route.split(" ")
    known = [(b"host", b"bench"), (b"content-type", b"application/json"), *headers]
    scope: Scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path}
    scope |= {"raw_path": path.encode(), "root_path": "", "query_string": query.encode(), "headers": known}
    scope |= {"scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": state}
    status, body = 0, b""

    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")

    began = time.perf_counter()
    await app(scope, receive, send)
    return Answered(status=status, body=body, ms=(time.perf_counter() - began) * 1000)


def layer_of(app: FastAPI, layer: ASGIApp) -> ASGIApp:
    """Routes find what they need by the application, which says who it is outside of all layers."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        await layer(scope, receive, send)

    return call


def encoded(headers: dict[str, str]) -> Headers:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


@contextlib.contextmanager
def unheard() -> Generator[None]:
    """What is printed meanwhile goes nowhere, and logs are among it."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123  it is no file
        _as_in_production()
        yield
        telemetry._lines.flush()  # its thread would write the last of them later


@cache
def _as_in_production() -> None:
    """Once in a process: OpenTelemetry's provider can't be replaced."""
    telemetry.setup("bench")
    sys.setswitchinterval(0.0005)  # as chassis.app.serve
