"""Ending a connection without an answer, which ASGI has no word for."""

import asyncio
import socket
import struct

from fastapi import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION = "sandbox.connection"
# Linger on, for no time: closing then sends a reset in place of the ordinary end.
_RESET = struct.pack("ii", 1, 0)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's own protocol, showing each request its connection. Raising, or returning early, would send a 500."""

    def on_message_begin(self) -> None:
        """A request has begun."""
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"transport": self.transport}}


def arm_reset(transport: asyncio.BaseTransport) -> None:
    """Makes the end of this connection a TCP reset, unless it has ended already."""
    if transport.is_closing():
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


async def hung_up(receive: Receive) -> None:
    """Returns once the connection is gone; what is left of the body is thrown away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def hang_up(scope: Scope, receive: Receive, *, reset: bool = False) -> None:
    """Closes the connection in the middle of a request: an end of stream for the caller, or a TCP reset."""
    transport: asyncio.Transport = scope["extensions"][_EXTENSION]["transport"]
    if reset:
        arm_reset(transport)
    transport.abort()
    # uvicorn logs an error and writes a 500 for an app that returns unanswered, unless it has seen the end itself.
    await hung_up(receive)


class HungUp(Response):
    """What a handler returns when the caller shall get no answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        """Hangs up."""
        await hang_up(scope, receive)
