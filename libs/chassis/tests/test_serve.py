"""A service as a process: what it makes of bytes that come, and how it ends when it is told to."""

import asyncio
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from stack.connections import said
from stack.eventually import eventually
from stack.local import free_port

SERVING = """
import asyncio, sys
from collections.abc import AsyncGenerator

import sqlalchemy as sa
from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from chassis.app import create_app
from chassis.health import Health
from chassis.edge.auth import Access
from chassis.changes.feed import Changes, Entry, changes_table
from chassis.db import Database
from chassis.server import serve
from chassis.leases import Leases, leases_table
from chassis.settings import ServiceSettings
from stack.fake_sidecar import FakeSidecar

metadata = sa.MetaData()
table, leases = changes_table(metadata), leases_table(metadata)
db = Database(f"sqlite:///{sys.argv[2]}")
changes = Changes(db=db, table=table, leases=Leases(db, leases))

async def start(lifespan):
    await lifespan.start(db)
    await db.write(metadata.create_all)
    lifespan.loop(changes.run(), name="changes")
    await changes.tell(Entry("t", "things", "a", None))

ports = {"app_port": int(sys.argv[1]), "dapr_http_port": 1}
settings = ServiceSettings(**ports, app_api_token=16 * "x", rate_limit="", leave_seconds=1)
rules = {"GET /stream": Access.PUBLIC, "GET /slow": Access.PUBLIC, "POST /echo": Access.PUBLIC}
outside = {"settings": settings, "sidecar": FakeSidecar()}
app = create_app(title="t", rules=rules, start=start, health=Health({}), refusals={}, **outside)
app.state.leaving.append(changes.end_readers)

@app.get("/stream", response_class=EventSourceResponse)
async def stream() -> AsyncGenerator[ServerSentEvent]:
    async for change in changes.follow(tenant="t", topic="things", after=0):
        yield ServerSentEvent(id=str(change.position), data=change.key)

@app.get("/slow")
async def slow() -> StreamingResponse:
    return StreamingResponse(pieces())

async def pieces() -> AsyncGenerator[str]:
    yield "begun, "
    await asyncio.sleep(1)
    yield "done"

@app.post("/echo")
async def echo(request: Request) -> dict[str, str]:
    return {"body": (await request.body()).decode(), "key": request.headers.get("idempotency-key", "")}

serve(app, settings, service="t")
"""

_DATA_SEGMENTS_IN = 152  # where the kernel has it (linux/tcp.h, struct tcp_info)


class Served:
    """A real process, and a client of it."""

    def __init__(self, data: Path) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(  # noqa: S603  our own
            [sys.executable, "-c", SERVING, str(self.port), str(data / "test.db")], stdout=subprocess.PIPE
        )
        fresh = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30, limits=fresh)

    async def is_up(self) -> bool:
        try:
            return (await self.client.get("/health/live")).status_code == 200
        except httpx.TransportError:
            return False

    async def is_leaving(self) -> bool:
        """It still answers, each time for the last time on that connection."""
        answer = await self.client.get("/health/live")
        return (answer.status_code, answer.headers.get("connection")) == (200, "close")

    async def is_gone(self) -> bool:
        return not await self.is_up()

    def stop(self) -> float:
        """Told to; the time at which it was."""
        self.process.send_signal(signal.SIGTERM)
        return time.monotonic()

    async def has_ended(self) -> None:
        await eventually(lambda: self.process.poll() is not None, within=30)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path)
    try:
        await eventually(served.is_up, within=60)
        yield served
    finally:
        await served.client.aclose()
        served.process.kill()
        served.process.communicate()


async def test_a_process_takes_what_comes_and_told_to_stop_ends_streams_whole_and_answers_what_is_under_way(
    served: Served,
):
    """All on one process: starting it takes longer than these four."""
    await an_answer_comes_in_one_piece(served)
    await offers_of_another_protocol_are_ignored_and_their_bodies_are_no_requests(served)
    await a_blank_at_the_end_of_a_header_is_no_part_of_it(served)
    await told_to_stop_it_ends_streams_whole_answers_what_is_under_way_and_takes_no_more(served)


async def an_answer_comes_in_one_piece(served: Served):
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    for _ in range(20):
        writer.write(SMUGGLED)
        head = await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
    told = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    writer.close()
    assert struct.unpack_from("I", told, _DATA_SEGMENTS_IN) == (20,)


async def told_to_stop_it_ends_streams_whole_answers_what_is_under_way_and_takes_no_more(served: Served):
    """uvicorn by itself waits ten seconds for streams and then cuts them off, for which httpx would raise."""
    streams = (served.client.stream("GET", path) for path in ("/stream", "/stream", "/slow"))
    async with AsyncExitStack() as open_streams:
        *followed, slow = [await open_streams.enter_async_context(stream) for stream in streams]
        heard = [answer.aiter_lines() for answer in followed]
        for lines in heard:
            assert await first_of(lines) == 'data: "a"'
        pieces = slow.aiter_text()
        assert await anext(pieces) == "begun, "
        told_at = served.stop()
        await eventually(served.is_leaving)
        await eventually(served.is_gone)
        assert time.monotonic() - told_at > 1
        assert [piece async for piece in pieces] == ["done"]
        for lines in heard:
            assert not [line async for line in lines if line.startswith("data")]
    await served.has_ended()

    assert time.monotonic() - told_at < 5


SMUGGLED = b"GET /health/live HTTP/1.1\r\nHost: t\r\n\r\n"
POSTED = b"POST /echo HTTP/1.1\r\nHost: t\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
SIZED = b"%bContent-Length: %d\r\n\r\n" % (POSTED, len(SMUGGLED))
LAST = b"GET /nowhere HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"


CHUNKED = b"%bTransfer-Encoding: chunked\r\n\r\n" % POSTED
OFFER = b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
CONVERSATIONS: list[tuple[list[bytes], list[int]]] = [
    ([SIZED + SMUGGLED + LAST], [200, 404]),
    ([SIZED, SMUGGLED, LAST], [200, 404]),
    ([SIZED[:40], SIZED[40:] + SMUGGLED[:7], SMUGGLED[7:] + LAST], [200, 404]),
    ([CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED), LAST], [200, 404]),
    ([3 * (SIZED + SMUGGLED) + LAST], [200, 200, 200, 404]),
    ([SMUGGLED.replace(b"\r\n\r\n", OFFER) + LAST], [200, 404]),
    ([b"CONNECT t:443 HTTP/1.1\r\nHost: t\r\n\r\n" + LAST], [400]),
    ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + LAST], [400]),
]


async def offers_of_another_protocol_are_ignored_and_their_bodies_are_no_requests(served: Served):
    for segments, statuses in CONVERSATIONS:
        answers = await said(served.port, *segments)

        assert [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answers)] == statuses, segments
        assert answers.count(b'"body":"GET /health/live') == b"".join(segments).count(b"POST")


async def a_blank_at_the_end_of_a_header_is_no_part_of_it(served: Served):
    head = b"POST /echo HTTP/1.1\r\nHost: t\r\nIdempotency-Key: \tk-1 \t \r\nConnection: close\r\n\r\n"

    assert b'"key":"k-1"' in await said(served.port, head)


async def first_of(lines: AsyncIterator[str]) -> str:
    return await anext(line async for line in lines if line.startswith("data"))
