"""Sagas on record: one row for each, which says how far it has come and when somebody must look at it again."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
import sqlalchemy as sa

from chassis.db import Database, Timestamp, upsert
from chassis.events import CloudEvent, InvalidEvent
from chassis.ids import now
from chassis.incidents import IncidentView, incidents_of, take_up
from chassis.sidecar import Sidecar
from chassis.takeover import Takeover
from chassis.tenants import elsewhere
from notification.domain import NotYours, OtherTenant, SagaNotFailed, UnknownSaga
from notification.incoming.read_event import RoutedEvent, read
from notification.incoming.routing_table import EventRoute, Route
from notification.incoming.saga import WORKFLOW, TellRef
from notification.tables import incidents, sagas

COMPLETED = "Completed"
_HAND_OVER_WITHIN = timedelta(seconds=10)  # from an event's commit until the durable driver has its saga


class SagaStatus(StrEnum):
    """`failed` has ended, without a step that broke for good and that nobody has had tried again."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


_given_up = sa.exists().where(
    incidents.c.tenant == sagas.c.tenant,
    incidents.c.saga_id == sagas.c.correlation_id,
    incidents.c.retried_at.is_(None),
)
_STATUS = sa.case(
    (sagas.c.completed_at.is_(None), SagaStatus.RUNNING.value),
    (_given_up, SagaStatus.FAILED.value),
    else_=SagaStatus.COMPLETED.value,
).label("saga_status")


class SagaIncident(IncidentView):
    step: str


class Sagas:
    """A tenant's sagas; those of one `owner`, None for everybody's."""

    def __init__(self, conn: sa.Connection, tenant: str, owner: str | None = None) -> None:
        self._conn = conn
        self._tenant = tenant
        self._owner = owner

    def page(self, *, status: SagaStatus | None, before: tuple[datetime, str] | None, limit: int) -> list[sa.Row[Any]]:
        """Newest first, those that began before the one named."""
        query = sa.select(sagas, _STATUS).where(sagas.c.tenant == self._tenant)
        query = query.order_by(sagas.c.started_at.desc(), sagas.c.correlation_id.desc()).limit(limit)
        if status is not None:
            query = query.where(_STATUS.in_([status.value]))
        if before is not None:
            at, correlation_id = before
            key = sa.tuple_(sa.literal(at, Timestamp), sa.literal(correlation_id))
            query = query.where(sa.tuple_(sagas.c.started_at, sagas.c.correlation_id) < key)
        return list(self._conn.execute(query))

    def incidents(self, correlation_id: str) -> list[SagaIncident]:
        return incidents_of(self._conn, incidents, self._tenant, correlation_id, SagaIncident)

    def take_up(self, correlation_id: str, *, by: str) -> TellRef:
        """Begun again from the step that failed: it is due. Raises SagaNotFailed besides."""
        row = self.get(correlation_id)
        if row.saga_status != SagaStatus.FAILED:
            raise SagaNotFailed(row.saga_status)
        failed = take_up(self._conn, incidents, self._tenant, correlation_id, by=by)
        if not failed:  # another call was first
            raise SagaNotFailed(SagaStatus.RUNNING)
        kept = [step for step in orjson.loads(row.steps) if step["step"] not in failed]
        again = {
            "steps": orjson.dumps(kept).decode(),
            "current_step": min(failed, key=_steps(event_of(row).routes).index),
            "step_started_at": now(),
            "completed_at": None,
            "due_at": now(),
            "version": sagas.c.version + 1,
        }
        self._conn.execute(sa.update(sagas).where(is_saga(_reference(row))).values(again))
        return _reference(row)

    def get(self, correlation_id: str) -> sa.Row[Any]:
        """Raises UnknownSaga, OtherTenant or NotYours."""
        query = sa.select(sagas, _STATUS)
        query = query.where(sagas.c.tenant == self._tenant, sagas.c.correlation_id == correlation_id)
        if (found := self._conn.execute(query).one_or_none()) is None:
            if elsewhere(self._conn, sagas, self._tenant, correlation_id=correlation_id):
                raise OtherTenant("Saga")
            raise UnknownSaga(correlation_id)
        if self._owner not in {None, found.owner}:
            raise NotYours("It tells of somebody else's business")
        return found


def begin(conn: sa.Connection, event: RoutedEvent) -> TellRef | None:
    """The saga's row, in the transaction of its event; None where it has begun before. Raises InvalidEvent where the
    correlation id is that of another kind of event, or of another source's: its steps would be lost."""
    steps, at = _steps(event.routes), now()
    row = {
        "tenant": event.tenant,
        "tenant_name": event.tenant_name,
        "correlation_id": event.correlation_id,
        "owner": event.owner or (event.recipient.id if event.recipient else ""),
        "source": event.source,
        "event_id": event.event_id,
        "topic": event.topic,
        "type": event.type,
        "subject_id": event.subject_id,
        "recipient_id": event.recipient.id if event.recipient else "",
        "data": orjson.dumps(event.data).decode(),
        "routes": event.route.model_dump_json(by_alias=True),
        "current_step": steps[0] if steps else COMPLETED,
        "steps": "[]",
        "traceparent": event.traceparent,
        "started_at": at,
        "step_started_at": at,
        "due_at": at + _HAND_OVER_WITHIN,
        "version": 1,
    }
    reference = TellRef(
        tenant=event.tenant,
        tenant_name=event.tenant_name,
        id=event.correlation_id,
        traceparent=event.traceparent,
        steps=steps,
    )
    if conn.execute(upsert(conn, sagas).values(row).on_conflict_do_nothing()).rowcount == 0:
        known = conn.execute(sa.select(sagas.c.topic, sagas.c.type, sagas.c.source).where(is_saga(reference))).one()
        if (known.topic, known.type, known.source or event.source) != (event.topic, event.type, event.source):
            raise InvalidEvent("correlationId: of another kind of event, or another source's")
        return None
    return reference


def event_of(row: sa.Row[Any]) -> RoutedEvent:
    """The event again, as it came, along the route of that day."""
    route = EventRoute.model_validate_json(row.routes)
    event = CloudEvent(
        id=row.event_id,
        source=row.source,
        type=row.type,
        subject=row.subject_id,
        tenantid=row.tenant,
        tenantname=row.tenant_name,
        traceparent=row.traceparent,
        time=row.started_at,
        data=orjson.loads(row.data),
    )
    return read(event, route)


def is_saga(reference: TellRef) -> sa.ColumnElement[bool]:
    return sa.and_(sagas.c.tenant == reference.tenant, sagas.c.correlation_id == reference.id)


def takeover(db: Database, sidecar: Sidecar, *, past_timer: timedelta) -> Takeover[TellRef]:
    """Of every tenant's sagas."""

    async def due(limit: int) -> Sequence[TellRef]:
        query = sa.select(sagas).where(sagas.c.due_at <= now()).order_by(sagas.c.due_at).limit(limit)
        return await db.read(lambda conn: [_reference(row) for row in conn.execute(query)])

    async def postpone(saga: TellRef, delay: timedelta) -> bool:
        under_way = sa.and_(is_saga(saga), sagas.c.completed_at.is_(None))
        later = sa.update(sagas).where(under_way).values(due_at=now() + delay)
        return await db.write(lambda conn: conn.execute(later).rowcount == 1)

    return Takeover(
        workflow=WORKFLOW, sidecar=sidecar, due=due, postpone=postpone, lease=_HAND_OVER_WITHIN, past_timer=past_timer
    )


def _reference(row: sa.Row[Any]) -> TellRef:
    return TellRef(
        tenant=row.tenant,
        tenant_name=row.tenant_name,
        id=row.correlation_id,
        traceparent=row.traceparent,
        steps=_steps(event_of(row).routes),
    )


def _steps(routes: Sequence[Route]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(route.step for route in routes if route.step))
