"""The receiver's process: OTLP/HTTP in, questions about a trace and about who calls whom out, on one port of loopback.

`POST /v1/traces` and `/v1/logs` are kept, `/v1/metrics` are taken and dropped. `GET /api/traces/{id}` is one trace,
`GET /api/edges?minutes=15&tenant=` the map, `GET /health` whether it serves. The shapes are those of `Store`.
"""

import argparse
import asyncio
import contextlib
import logging
import re
import sqlite3
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from google.protobuf.message import DecodeError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stack.local import HOST
from stack.otlp.records import Line, Span, lines, spans
from stack.otlp.store import Store

log = logging.getLogger(__name__)

_WAITING = 64  # batches that are not yet written; a sender whose next one is refused keeps it, and comes again
_MOST_BYTES = 16 * 2**20  # of a batch, unpacked
_PROTOBUF = "application/x-protobuf"
_LONGEST_MAP = 24 * 60  # minutes

Rows = list[Span | Line]
Read = Callable[[bytes], Iterable[Span | Line]]


class Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Receiver:
    """Takes what senders bring, writes it, and answers what is asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: asyncio.Queue[Rows] = asyncio.Queue(_WAITING)

    def take(self, read: Read) -> Callable[[Request], Awaitable[Response]]:
        async def handler(request: Request) -> Response:
            try:
                self._waiting.put_nowait(list(read(await _body(request))))
            except Refused as refused:
                return Response(status_code=refused.status)
            except (DecodeError, zlib.error):
                return Response(status_code=400)
            except asyncio.QueueFull:
                return Response(status_code=503, headers={"Retry-After": "1"})
            return Response(media_type=_PROTOBUF)  # an empty message: everything was taken

        return handler

    async def trace(self, request: Request) -> Response:
        found = await asyncio.to_thread(self._store.by_trace, request.path_params["trace"].lower())
        return JSONResponse(found, status_code=200 if any(found.values()) else 404)

    async def edges(self, request: Request) -> Response:
        minutes = request.query_params.get("minutes", "15")
        if not re.fullmatch(r"[0-9]{1,4}", minutes) or not 0 < int(minutes) <= _LONGEST_MAP:
            return Response(status_code=400)
        since = datetime.now(UTC) - timedelta(minutes=int(minutes))
        tenant = request.query_params.get("tenant", "")
        return JSONResponse({"edges": await asyncio.to_thread(self._store.edges, since=since, tenant=tenant)})

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "UP"})

    @contextlib.asynccontextmanager
    async def writing(self, _app: Starlette) -> AsyncGenerator[None]:
        writer = asyncio.create_task(self._write())
        yield
        await self._waiting.join()
        writer.cancel()

    async def _write(self) -> None:
        """What has come meanwhile is written together."""
        while True:
            batches = [await self._waiting.get()]
            while not self._waiting.empty():
                batches.append(self._waiting.get_nowait())
            try:
                await asyncio.to_thread(self._store.add, [row for rows in batches for row in rows])
            except sqlite3.Error as error:  # a full disk: these are lost, and the next may not be
                log.warning("%d batches were not written: %s", len(batches), error)
            for _ in batches:
                self._waiting.task_done()


def create_app(store: Store) -> Starlette:
    receiver = Receiver(store)
    return Starlette(
        lifespan=receiver.writing,
        routes=[
            Route("/v1/traces", receiver.take(spans), methods=["POST"]),
            Route("/v1/logs", receiver.take(lines), methods=["POST"]),
            Route("/v1/metrics", receiver.take(lambda _body: ()), methods=["POST"]),
            Route("/api/traces/{trace}", receiver.trace),
            Route("/api/edges", receiver.edges),
            Route("/health", receiver.health),
        ],
    )


async def _body(request: Request) -> bytes:
    """Unpacked. Raises Refused, zlib.error."""
    if request.headers.get("content-type", "").partition(";")[0] != _PROTOBUF:
        raise Refused(415)
    received = bytearray()
    try:
        async for part in request.stream():
            received += part
            if len(received) > _MOST_BYTES:
                raise Refused(413)
    except ClientDisconnect:
        raise Refused(400) from None
    if request.headers.get("content-encoding") != "gzip":
        return bytes(received)
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    plain = unpacker.decompress(received, _MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise Refused(413)
    if not unpacker.eof:
        raise Refused(400)  # cut off
    return plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    store = Store(options.file)
    uvicorn.run(create_app(store), host=HOST, port=options.port, log_level="warning", access_log=False)
    store.close()


if __name__ == "__main__":
    main()
