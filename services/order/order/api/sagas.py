"""Sagas: how far the story of each order has come, and the one that a person has tried again."""

from typing import Annotated

from fastapi import Request

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.ids import id_or
from chassis.paging import Cursor, Limit, decode_cursor, next_cursor
from order.domain import SagaNotFound, Shape
from order.saga_records import Sagas, SagaStatus, SagaSummary, SagaView
from order.services import services

router = Routes(prefix="/api/v1/sagas", tags=["sagas"])


SagaId = Annotated[str, id_or(SagaNotFound)]
_NO_SAGA = {403: "different-tenant", 404: "saga-not-found"}


class SagaPage(Shape):
    items: list[SagaSummary]
    next: str | None


def _sagas(request: Request) -> Sagas:
    return Sagas(services(request).db, caller_of(request).tenant)


@router.get("", responses=refused({422: "invalid-request"}))
async def list_sagas(
    request: Request,
    status: SagaStatus | None = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> SagaPage:
    """Newest first; `compensation_failed` are those that wait for a person."""
    before = decode_cursor(cursor) if cursor is not None else None
    found = await _sagas(request).page(status=status, before=before, limit=limit + 1)
    return SagaPage(items=found[:limit], next=next_cursor(found, limit, lambda row: row.id))


@router.get("/{saga_id}", responses=refused(_NO_SAGA))
async def get_saga(request: Request, saga_id: SagaId) -> SagaView:
    return await _sagas(request).get(saga_id)


@router.post("/{saga_id}/retry", status_code=202, responses=refused(_NO_SAGA | {409: "saga-not-failed"}))
async def retry_saga(request: Request, saga_id: SagaId) -> SagaView:
    """Have the step that failed tried again, after what kept it from succeeding was put right. Those before it are
    told anew, and only find what they did."""
    reference = await _sagas(request).take_up(saga_id, by=caller_of(request).subject)
    await services(request).saga.takeover.hand_over(reference, "retried by a person")
    return await _sagas(request).get(saga_id)
