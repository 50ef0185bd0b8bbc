"""The change feed as server-sent events, for people who watch: replay by Last-Event-ID, FastAPI's heartbeat, and an
end when its reader is too slow, the process leaves, or a quarter of an hour is over."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Depends, Header
from fastapi.sse import ServerSentEvent

from chassis.changes.feed import Change, Changes
from chassis.edge.auth import Caller
from chassis.problems import Invalid

# Then the client connects again, with its Last-Event-ID and a token that is still good.
_LASTS = 900.0
_LARGEST = 2**63 - 1


async def _after(last_event_id: Annotated[str | None, Header(max_length=20)] = None) -> int | None:
    if last_event_id is None or last_event_id == "":
        return None
    if not last_event_id.isascii() or not last_event_id.isdecimal() or int(last_event_id) > _LARGEST:
        raise Invalid("Last-Event-ID", "not an id of this stream")
    return int(last_event_id)


After = Annotated[int | None, Depends(_after)]


async def live_events(
    changes: Changes, caller: Caller, *, topic: str, noun: str, key: str | None = None, after: int | None
) -> AsyncGenerator[ServerSentEvent]:
    """An event `noun.status` for each change of the caller's tenant: a user's own, for staff everybody's. A change's
    `data` says `status` and `ownerId`, which is not shown. Close it (`contextlib.aclosing`) when it is left."""
    ends = time.monotonic() + _LASTS
    if (begins := await changes.start_of(after)) is None:
        return
    # An id alone, no event: a line that breaks before its first event is gone on with where it began.
    yield ServerSentEvent(id=str(begins))
    async with aclosing(changes.follow(tenant=caller.tenant, topic=topic, key=key, after=begins)) as feed:
        while True:
            try:
                async with asyncio.timeout(max(0.0, ends - time.monotonic())):
                    change = await anext(feed)
            except (StopAsyncIteration, TimeoutError):
                return
            if caller.owner in {None, change.data["ownerId"]}:
                yield _event(noun, change)


def _event(noun: str, change: Change) -> ServerSentEvent:
    shown: dict[str, Any] = {name: value for name, value in change.data.items() if name != "ownerId"}
    return ServerSentEvent(
        id=str(change.position),
        event=f"{noun}.{change.data['status']}",
        data=shown | {"at": change.created_at.isoformat()},
    )
