"""Dead letters: events that nobody could process, kept to be looked at and published again."""

from datetime import datetime
from typing import Annotated, Any, cast

import orjson
import sqlalchemy as sa
from fastapi import Depends, Request

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.events import Wire
from chassis.sidecar import SidecarDown
from notification.api.notifications import Text, page_of
from notification.domain import DEFAULT_TENANT, NotReplayable
from notification.incoming.dead_letters import NO_ID
from notification.queue.history import Page
from notification.services import services


class DeadLetterView(Wire):
    """`body` is what was delivered, as it came."""

    id: str
    topic: str
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
    503: "database-unavailable, sidecar-unavailable, broker-unavailable",
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
    """Publish the event again to the topic it came by, under its own id. `replayedAt` is null where it has died
    again meanwhile."""
    caller = caller_of(request)
    made = services(request)
    row = await made.units.read(caller.tenant, lambda unit: unit.dead_letters.get(letter_id))
    if await made.sidecar.publish(made.pubsub, row.topic, [_event(row)]):
        raise SidecarDown("broker")
    return _shown(
        await made.units.write(caller.tenant, lambda unit: unit.dead_letters.replayed(letter_id, row.received_at))
    )


def _event(row: sa.Row[Any]) -> dict[str, Any]:
    """The event as it was published first. Where it was delivered is the broker's to say, so that is left out."""
    if not row.topic or not row.type or row.event_id.startswith(NO_ID):
        raise NotReplayable(row.id)
    body = cast("dict[str, Any]", orjson.loads(row.body))
    if body.get("tenantid", DEFAULT_TENANT) != row.tenant:
        raise NotReplayable(row.id)  # it names no tenant that could be kept: whoever replays it acts for another one
    return {"data": None} | {key: value for key, value in body.items() if key not in {"topic", "pubsubname"}}


def _shown(row: sa.Row[Any]) -> DeadLetterView:
    return DeadLetterView.model_validate(row, from_attributes=True)
