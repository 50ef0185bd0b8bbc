"""What could not be taken: looked at, taken after all, or thrown away."""

from fastapi import Request, Response

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.paging import Cursor, Limit, decode_cursor
from chassis.telemetry import traceparent
from datasource.api.shapes import ItemId, Page, QuarantinedView
from datasource.domain import Entity
from datasource.quarantine import Kept, Quarantine
from datasource.services import services

router = Routes(
    prefix="/api/v1", tags=["sync"], responses=refused({422: "invalid-request", 503: "database-unavailable"})
)

_NO_ITEM = {403: "different-tenant", 404: "record-not-found"}


@router.get("/sync/quarantine")
async def list_quarantine(
    request: Request, entity: Entity | None = None, limit: Limit = 20, cursor: Cursor = None
) -> Page[QuarantinedView]:
    """Newest first."""
    before = decode_cursor(cursor) if cursor is not None else None
    found = await _quarantine(request).page(entity=entity, before=before, limit=limit + 1)
    return Page.of(found, _view, limit=limit, row_id=lambda kept: kept.id)


@router.post("/sync/quarantine/{item_id}/replay", status_code=204, responses=refused(_NO_ITEM | {409: "still-invalid"}))
async def replay_quarantined(request: Request, item_id: ItemId) -> Response:
    """Takes it as it would be taken now; what still can't be stays."""
    await _quarantine(request).replay(item_id, parent=traceparent())
    return Response(status_code=204)


@router.delete("/sync/quarantine/{item_id}", status_code=204, responses=refused(_NO_ITEM))
async def delete_quarantined(request: Request, item_id: ItemId) -> Response:
    """Until the source sends it again."""
    await _quarantine(request).delete(item_id)
    return Response(status_code=204)


def _quarantine(request: Request) -> Quarantine:
    made = services(request)
    return Quarantine(made.db, made.outbox, caller_of(request).tenant)


def _view(kept: Kept) -> QuarantinedView:
    return QuarantinedView.model_validate(kept, from_attributes=True)
