"""The live feed: what becomes of a recipient's notifications, as server-sent events."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from chassis.changes.feed import Change
from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.problems import Invalid
from notification.announcements import FEED
from notification.api.shapes import Text
from notification.services import services

# Then the client connects again, with its Last-Event-ID and a token that is still good.
_LASTS = 900.0
_LARGEST = 2**63 - 1


async def _after(last_event_id: Annotated[str | None, Header(max_length=20)] = None) -> int | None:
    if last_event_id is None or last_event_id == "":
        return None
    if not last_event_id.isascii() or not last_event_id.isdecimal() or int(last_event_id) > _LARGEST:
        raise Invalid("Last-Event-ID", "not an id of this stream")
    return int(last_event_id)


router = Routes(prefix="/api/v1", tags=["notifications"], responses=refused({422: "invalid-request"}))


@router.get("/stream", response_class=EventSourceResponse)
async def stream_notifications(
    request: Request,
    recipient_id: Annotated[Text, Query(alias="recipientId")],
    after: Annotated[int | None, Depends(_after)],
) -> AsyncGenerator[ServerSentEvent]:
    """An event for every move from `sent` on; a user's own, for staff everybody's. With `Last-Event-ID` whatever
    came after that one is told first, by whichever replica. It ends after 15 minutes: connect again."""
    caller = caller_of(request)
    changes = services(request).changes
    ends = time.monotonic() + _LASTS
    feed = changes.follow(tenant=caller.tenant, topic=FEED, key=recipient_id, after=after)
    async with aclosing(feed) as changes:
        while True:
            try:
                async with asyncio.timeout(max(0.0, ends - time.monotonic())):
                    change = await anext(changes)
            except (StopAsyncIteration, TimeoutError):
                return
            if caller.owner in {None, change.data["ownerId"]}:
                yield _event(change)


def _event(change: Change) -> ServerSentEvent:
    shown: dict[str, Any] = {name: value for name, value in change.data.items() if name != "ownerId"}
    return ServerSentEvent(
        id=str(change.position),
        event=f"notification.{change.data['status']}",
        data=shown | {"at": change.created_at.isoformat()},
    )
