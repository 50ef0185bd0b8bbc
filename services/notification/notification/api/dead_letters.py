"""Dead letters: events that nobody could process, kept to be looked at and published again."""

from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Depends, Request

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.wire import Wire
from notification.api.notifications import page_of
from notification.api.shapes import Text
from notification.incoming.dead_letters import redeliver
from notification.queue.history import Page
from notification.services import services


class DeadLetterView(Wire):
    """`app` could not process it; `body` is what was delivered, as it came. `source`, `eventId` and `type` are "" where
    the body has none, and are cut to 255 and 128 characters."""

    id: str
    app: str
    topic: str
    source: str
    event_id: str
    type: str
    body: str
    received_at: datetime
    replayed_at: datetime | None


class DeadLetterPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[DeadLetterView]
    next: str | None


_REPLAY = {
    403: "different-tenant",
    404: "dead-letter-not-found",
    409: "not-replayable",
    503: "database-unavailable, sidecar-unavailable, app-unavailable",
}


router = Routes(
    prefix="/api/v1/dead-letters",
    tags=["dead letters"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


@router.get("")
async def list_dead_letters(request: Request, page: Annotated[Page, Depends(page_of)]) -> DeadLetterPage:
    """Newest first."""
    caller = caller_of(request)
    units = services(request).units
    rows, following = await units.read(caller.tenant, lambda unit: unit.dead_letters.page(page))
    return DeadLetterPage(items=[_shown(row) for row in rows], next=following)


@router.post("/{letter_id}/replay", responses=refused(_REPLAY))
async def replay_dead_letter(request: Request, letter_id: Text) -> DeadLetterView:
    """Deliver the event again, to the app that could not process it and to no other; 200 once it is processed."""
    caller = caller_of(request)
    made = services(request)
    row = await made.units.read(caller.tenant, lambda unit: unit.dead_letters.get(letter_id))
    await redeliver(made.sidecar, row)
    done = await made.units.write(caller.tenant, lambda unit: unit.dead_letters.replayed(letter_id, row.received_at))
    return _shown(done)


def _shown(row: sa.Row[Any]) -> DeadLetterView:
    return DeadLetterView.model_validate(row, from_attributes=True)
