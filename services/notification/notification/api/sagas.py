"""Sagas: how far an event that is told step by step has come."""

from datetime import datetime
from typing import Any

import orjson
from fastapi import Request

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.wire import Wire
from notification.api.shapes import Text
from notification.services import services


class StepView(Wire):
    """`sent`: a provider took a message of it; else it failed or its time ran out."""

    step: str
    sent: bool
    ended_at: datetime


class SagaView(Wire):
    """`currentStep` is the one under way, `Completed` at the end."""

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


router = Routes(
    prefix="/api/v1/sagas",
    tags=["events"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


@router.get("/{correlation_id}", responses=refused({403: "different-tenant, not-owner", 404: "saga-not-found"}))
async def get_saga(request: Request, correlation_id: Text) -> SagaView:
    """How far an event that is told step by step has come."""
    caller = caller_of(request)
    units = services(request).units
    row = await units.read(caller.tenant, lambda unit: unit.sagas.get(correlation_id), owner=caller.owner)
    shown: dict[str, Any] = {name: getattr(row, name) for name in SagaView.model_fields if name != "steps"}
    return SagaView(**shown, steps=orjson.loads(row.steps))
