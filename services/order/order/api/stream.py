"""Live orders: what becomes of them, as server-sent events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from chassis.changes.stream import After, live_events
from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from order.announcements import FEED, key_of
from order.services import services

router = Routes(prefix="/api/v1", tags=["orders"], responses=refused({422: "invalid-request"}))


@router.get("/orders/stream", response_class=EventSourceResponse)
async def stream_orders(request: Request, after: After) -> AsyncGenerator[ServerSentEvent]:
    """One for every event of an order; a user's own, for staff the tenant's. With `Last-Event-ID` whatever came after
    that one is told first, by whichever replica. It ends after 15 minutes: connect again."""
    changes, caller = services(request).changes, caller_of(request)
    key = None if caller.owner is None else key_of(caller.owner)
    async with aclosing(live_events(changes, caller, topic=FEED, noun="order", key=key, after=after)) as events:
        async for event in events:
            yield event
