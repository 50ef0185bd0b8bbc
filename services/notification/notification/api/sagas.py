"""Sagas: how far an event that is told step by step has come."""

from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import Query, Request

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.paging import Limit, decode_keys, encode_keys, moment
from chassis.wire import Wire
from notification.api.shapes import Text
from notification.incoming.saga import WORKFLOW
from notification.incoming.saga_records import SagaIncident, SagaStatus
from notification.services import services
from notification.unit_of_work import UnitOfWork


class StepView(Wire):
    """`sent`: a provider took a message of it; else it failed or its time ran out."""

    step: str
    sent: bool
    ended_at: datetime


class SagaView(Wire):
    """`currentStep` is the one under way, `Completed` at the end. `id` is the correlation id. Of a `failed` one a step
    broke for good, and its recipients heard nothing."""

    id: str
    workflow: str = WORKFLOW
    status: SagaStatus
    correlation_id: str
    topic: str
    type: str
    subject_id: str
    recipient_id: str
    current_step: str
    steps: list[StepView]
    started_at: datetime
    completed_at: datetime | None
    version: int


class SagaDetail(SagaView):
    incidents: list[SagaIncident]


class SagaPage(Wire):
    items: list[SagaView]
    next: str | None


router = Routes(
    prefix="/api/v1/sagas",
    tags=["events"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


_NO_SAGA = {403: "different-tenant, not-owner", 404: "saga-not-found"}


@router.get("", responses=refused({422: "invalid-request"}))
async def list_sagas(
    request: Request,
    status: SagaStatus | None = None,
    limit: Limit = 20,
    cursor: Annotated[str | None, Query(max_length=255)] = None,
) -> SagaPage:
    """Newest first; `failed` are those that wait for a person."""
    before = _decoded(cursor) if cursor is not None else None
    found = await services(request).units.read(
        caller_of(request).tenant, lambda unit: unit.sagas.page(status=status, before=before, limit=limit + 1)
    )
    last = found[limit - 1] if len(found) > limit else None
    following = encode_keys(last.started_at.isoformat(), last.correlation_id) if last is not None else None
    return SagaPage(items=[SagaView(**_facts(row)) for row in found[:limit]], next=following)


@router.get("/{correlation_id}", responses=refused(_NO_SAGA))
async def get_saga(request: Request, correlation_id: Text) -> SagaDetail:
    """How far an event that is told step by step has come."""
    caller = caller_of(request)
    return await services(request).units.read(
        caller.tenant, lambda unit: _detail(unit, correlation_id), owner=caller.owner
    )


@router.post("/{correlation_id}/retry", status_code=202, responses=refused(_NO_SAGA | {409: "saga-not-failed"}))
async def retry_saga(request: Request, correlation_id: Text) -> SagaDetail:
    """Have the step that failed tried again, after what kept it from succeeding was put right. Whom the others have
    told hears nothing twice."""
    caller, made = caller_of(request), services(request)
    reference = await made.units.write(
        caller.tenant, lambda unit: unit.sagas.take_up(correlation_id, by=caller.subject)
    )
    await made.saga.takeover.hand_over(reference, "retried by a person")
    return await made.units.read(caller.tenant, lambda unit: _detail(unit, correlation_id))


def _decoded(cursor: str) -> tuple[datetime, str]:
    at, correlation_id = decode_keys(cursor, 2)
    return moment(at), correlation_id


def _detail(unit: UnitOfWork, correlation_id: str) -> SagaDetail:
    row = unit.sagas.get(correlation_id)
    return SagaDetail(**_facts(row), incidents=unit.sagas.incidents(correlation_id))


def _facts(row: Any) -> dict[str, Any]:
    computed = {"id": row.correlation_id, "status": SagaStatus(row.saga_status), "steps": orjson.loads(row.steps)}
    stored = set(SagaView.model_fields) - set(computed) - {"workflow"}
    return {name: getattr(row, name) for name in stored} | computed
