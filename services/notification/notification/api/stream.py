"""The live feed: what becomes of a recipient's notifications, as server-sent events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from chassis.changes.stream import After, live_events
from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from notification.announcements import FEED
from notification.api.shapes import Text
from notification.services import services

router = Routes(prefix="/api/v1", tags=["notifications"], responses=refused({422: "invalid-request"}))


@router.get("/stream", response_class=EventSourceResponse)
async def stream_notifications(
    request: Request, recipient_id: Annotated[Text, Query(alias="recipientId")], after: After
) -> AsyncGenerator[ServerSentEvent]:
    """An event for every move from `sent` on; a user's own, for staff everybody's. With `Last-Event-ID` whatever
    came after that one is told first, by whichever replica. It ends after 15 minutes: connect again."""
    changes, caller = services(request).changes, caller_of(request)
    feed = live_events(changes, caller, topic=FEED, noun="notification", key=recipient_id, after=after)
    async with aclosing(feed) as events:
        async for event in events:
            yield event
