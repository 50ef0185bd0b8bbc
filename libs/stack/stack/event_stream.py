"""A reader of server-sent events, over ASGI itself: httpx's transport gives an answer only once it has ended, and a
stream doesn't."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
from starlette.types import ASGIApp, Message, Scope

from stack.eventually import eventually


class StreamEvent(NamedTuple):
    id: int
    name: str
    data: dict[str, Any]


class EventStream:
    """What came so far."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self._over = asyncio.Event()

    @property
    def events(self) -> list[StreamEvent]:
        return [_parsed(block) for block in self.body.decode().split("\n\n")[:-1] if "data:" in block]

    @property
    def last_id(self) -> int | None:
        """What a reader that lost the line would go on from."""
        ids = [line for line in self.body.decode().splitlines() if line.startswith("id: ")]
        return int(ids[-1].removeprefix("id: ")) if ids else None

    async def at_least(self, number: int) -> list[StreamEvent]:
        return await eventually(lambda: self.events if len(self.events) >= number else None, every=0.01)

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                self._over.set()

    async def ended(self) -> None:
        async with asyncio.timeout(10):
            await self._over.wait()


def _parsed(block: str) -> StreamEvent:
    fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
    return StreamEvent(int(fields["id"]), fields["event"], json.loads(fields["data"]))


@asynccontextmanager
async def listening(app: ASGIApp, url: str, headers: httpx.Headers | dict[str, str]) -> AsyncGenerator[EventStream]:
    """A reader of `GET url`, once it is in; gone when left."""
    gone, stream, begun = asyncio.Event(), EventStream(), False

    async def receive() -> Message:
        nonlocal begun
        if not begun:
            begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def answer() -> None:
        await app(scope_of(url, headers), receive, stream.take)

    answering = asyncio.create_task(answer())
    try:
        await eventually(lambda: stream.status, every=0.005)
        yield stream
    finally:
        gone.set()
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


def scope_of(url: str, headers: httpx.Headers | dict[str, str]) -> Scope:
    """Of `GET url`."""
    request = httpx.Request("GET", f"http://test{url}", headers=headers)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "root_path": "",
        "query_string": request.url.query,
        "server": ("test", 80),
        "client": ("127.0.0.1", 1),
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
    }
