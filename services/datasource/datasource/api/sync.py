"""Runs by command, and what became of them."""

import asyncio
from typing import Annotated, Any

from fastapi import Query, Request, Response

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.paging import Cursor, Limit, decode_cursor
from datasource.api.shapes import LogId, Page, SyncLogView
from datasource.domain import Entity, Mode, NotFound, SyncStatus
from datasource.runs import Logs
from datasource.services import services

router = Routes(
    prefix="/api/v1", tags=["sync"], responses=refused({422: "invalid-request", 503: "database-unavailable"})
)

_LOCATION = {"Location": {"description": "The run's log", "required": True, "schema": {"type": "string"}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "How it ended", "headers": _LOCATION},
    202: {"model": SyncLogView, "description": "It goes on; its log says how", "headers": _LOCATION},
}


@router.get("/sync/logs")
async def list_sync_logs(
    request: Request,
    entity: Entity | None = None,
    status: Annotated[list[SyncStatus] | None, Query(max_length=len(SyncStatus))] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[SyncLogView]:
    """Newest first."""
    before = decode_cursor(cursor) if cursor is not None else None
    found = await _logs(request).page(entity=entity, statuses=status or (), before=before, limit=limit + 1)
    return Page.of(found, SyncLogView.of, limit=limit, row_id=lambda log: log.id)


@router.get("/sync/logs/{log_id}", responses=refused({404: "record-not-found"}))
async def get_sync_log(request: Request, log_id: LogId) -> SyncLogView:
    if (found := await _logs(request).find(log_id)) is None:
        raise NotFound("sync log")
    return SyncLogView.of(found)


@router.post(
    "/sync/{entity}",
    response_model=SyncLogView,
    responses=_ANSWERS | refused({404: "source-not-found", 409: "sync-running"}),
)
async def start_sync(request: Request, entity: Entity, mode: Mode = Mode.INCREMENTAL) -> Response:
    """Reads from the tenant's source what has changed, or (`full`) everything, which finds what is there no more. 200
    with the result where that takes less than 5 s."""
    made = services(request)
    log_id, driving = await made.syncs.command(caller_of(request).tenant, entity, mode)
    await asyncio.wait([driving], timeout=made.settings.answer_seconds)
    log = await made.runs.get(log_id)
    return Response(
        SyncLogView.of(log).model_dump_json(by_alias=True),
        202 if log.status is SyncStatus.IN_PROGRESS else 200,
        headers={"Location": f"/api/v1/sync/logs/{log_id}"},
        media_type="application/json",
    )


def _logs(request: Request) -> Logs:
    return Logs(services(request).db, caller_of(request).tenant)
