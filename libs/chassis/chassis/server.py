"""The process that a service is: uvicorn, told what it does not know by itself."""

import asyncio
import gc
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import httptools
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chassis import telemetry
from chassis.settings import ServiceSettings

# How long a thread may keep the interpreter while another waits for it. With Python's own 5 ms the loop and the SQLite
# writer make each other wait longer than a whole transaction takes.
_SWITCH_SECONDS = 0.0005

# New objects until a collection.
_COLLECT_AFTER = 20_000

_NOT_STARTED = 3  # as uvicorn exits by itself


def serve(app: FastAPI, settings: ServiceSettings, *, service: str, spelt: Sequence[str] = ()) -> None:
    """Run `app` until SIGTERM or SIGINT, and `leave_seconds` longer; requests under way are answered first.

    `spelt`: see `telemetry.setup`.
    """
    instance = f"{socket.gethostname()}:{settings.app_port}"
    telemetry.setup(service, instance=instance, level=settings.log_level, spelt=spelt)
    sys.setswitchinterval(_SWITCH_SECONDS)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.app_port,
        loop="uvloop",
        ws="none",
        http=Http,
        access_log=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        log_level="warning",
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,
        server_header=False,
    )
    server = _Server(config, leaving=app.state.leaving, leave_seconds=settings.leave_seconds)
    server.run()
    if not server.started:
        sys.exit(_NOT_STARTED)


class Http(HttpToolsProtocol):
    """uvicorn's protocol on httptools, which ignores an offer to speak another one (RFC 9110 7.8): `Upgrade: h2c`,
    which `curl --http2` and Java's client make with any request.

    httptools ends a message at its offer, before the body: what follows would be read as the next request, and two
    servers behind each other would not agree where one ends. So the request is read once more, without its offer. h11
    ignores offers by itself, and costs more than half as much again of the server's own time.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  as uvicorn's own
        super().connection_made(cast("asyncio.Transport", _HeadWithBody(transport)))

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as offer:
                data = self._without_offer(data[offer.args[0] :])
            except httptools.HttpParserError:
                data = b""
                self.send_400_response("Invalid HTTP request received.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A blank at its end is no part of a header's value (RFC 9110 5.5)."""
        super().on_header(name, value.rstrip(b" \t"))

    def _should_upgrade(self) -> bool:
        """Nothing of a request is run before it stands without its offer."""
        return True

    def _without_offer(self, rest: bytes) -> bytes:
        """The same request, for a parser that has seen nothing of it yet; nothing where there is none to answer."""
        method = self.scope["method"].encode()
        if method == b"CONNECT":  # a tunnel, which has nothing but an offer
            self.send_400_response("No tunnels here.")
            return b""
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.scope["http_version"].encode())]
        for name, value in self.headers:
            if name == b"connection":
                kept = [option for option in value.split(b",") if option.strip().lower() != b"upgrade"]
                lines.append(b"connection: " + b",".join(kept))
            elif name != b"upgrade":
                lines.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", rest])


class _HeadWithBody:
    """A connection on which the head of an answer goes out with the beginning of its body. uvicorn writes one after the
    other, uvloop sends what is written at once, and each packet more costs both sides 30 µs."""

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        elif data.startswith(b"HTTP/1."):
            self._head = data
            self._loop.call_soon(self._send_head)  # a body that is made piece by piece may begin much later
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Server(uvicorn.Server):
    """Told to stop, it serves on until nobody sends it more, and tells streams, which would keep it for its grace."""

    def __init__(self, config: uvicorn.Config, *, leaving: list[Callable[[], None]], leave_seconds: float) -> None:
        super().__init__(config)
        self._leaving = leaving
        self._leave_seconds = leave_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What start-up made stays: the collector need not walk it again with every full collection.
        gc.collect()
        gc.freeze()
        # A request makes thousands of objects and hardly ever a cycle: looked for after 700 it is 3 % of all work.
        gc.set_threshold(_COLLECT_AFTER, 10, 10)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Whoever kept a connection makes the next one to a process that stays.
        self.server_state.default_headers.append((b"connection", b"close"))
        await asyncio.sleep(self._leave_seconds)
        for tell in self._leaving:
            tell()
        await super().shutdown(sockets)
