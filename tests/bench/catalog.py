"""What people watch: the featured products, and orders as they happen. The order service's whole application, in this
process; its database is SQLite, and there is no network."""

import asyncio
import time
from contextlib import ExitStack
from typing import Any

import orjson
import psutil
from edge import application
from in_process import encoded, layer_of, request
from load import percentiles
from starlette.types import ASGIApp, Message

from stack.event_stream import scope_of
from stack.issuer import Issuer

FEATURED, STREAM, ORDERS = "GET /api/v1/catalog/featured", "/api/v1/orders/stream", "POST /api/v1/orders"
_WARM = 50
_EVENT = b"event: order.confirmed"
_LONGEST = 60  # seconds until all must have been told


async def measure(order: dict[str, Any], *, times: int, readers: int, orders: int) -> dict[str, dict[str, float]]:
    """How long the featured products take, and how long after an order was sent all of so many readers are told."""
    async with application() as (app, issuer):
        whole = layer_of(app, app.build_middleware_stack())
        return {
            "featured": await _featured(whole, issuer, times),
            "live_orders": await _live_orders(whole, issuer, order, readers=readers, orders=orders),
        }


async def _featured(app: ASGIApp, issuer: Issuer, times: int) -> dict[str, float]:
    bearer = encoded(issuer.bearer("user"))
    took = [(await request(app, FEATURED, bearer)).ms for _ in range(times + _WARM)][_WARM:]
    return {"count": times, "per_s": round(1000 * times / sum(took), 1)} | percentiles(took, digits=3)


async def _live_orders(
    app: ASGIApp, issuer: Issuer, order: dict[str, Any], *, readers: int, orders: int
) -> dict[str, float]:
    staff, content = issuer.bearer("staff"), orjson.dumps(order)
    from_the_first = staff | {"Last-Event-ID": "0"}  # or one would be told before a reader reads
    before = _resident_mb()
    with ExitStack() as ending:
        watching = [_Reader() for _ in range(readers)]
        for reader in watching:
            task = asyncio.ensure_future(app(scope_of(STREAM, from_the_first), reader.receive, reader.send))
            ending.callback(task.cancel)

        async def all_told() -> float:
            """Milliseconds."""
            began = time.perf_counter()
            placed = await request(app, ORDERS, encoded(staff), content=content)
            assert placed.status == 201, placed.body
            await asyncio.wait_for(asyncio.gather(*(reader.told() for reader in watching)), _LONGEST)
            return (time.perf_counter() - began) * 1000

        await asyncio.gather(*(reader.begun.wait() for reader in watching))
        took = [await all_told() for _ in range(orders + 1)][1:]
        return {"count": readers} | percentiles(took) | {"memory_mb": round(_resident_mb() - before, 1)}


class _Reader:
    """One who reads whatever comes, and at once."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._asked = False
        self._confirmed: asyncio.Queue[None] = asyncio.Queue()

    async def told(self) -> None:
        """Of the next order that is confirmed."""
        await self._confirmed.get()

    async def receive(self) -> Message:
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        self.begun.set()
        if _EVENT in message.get("body", b""):
            self._confirmed.put_nowait(None)


def _resident_mb() -> float:
    return psutil.Process().memory_info().rss / 2**20
