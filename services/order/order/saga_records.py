"""The sagas of a tenant's orders, as staff sees them: where each stands, and the one that waits for a person."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import now
from chassis.incidents import IncidentView, incidents_of, take_up
from chassis.telemetry import trace_id_in
from chassis.tenants import elsewhere
from order.domain import OrderOfOtherTenant, PaymentStatus, SagaNotFailed, SagaNotFound, Shape
from order.saga import WORKFLOW, OrderRef
from order.tables import incidents, orders
from order.timeline import StepName, TimelineEntry, timeline_of

Row = sa.Row[*tuple[Any, ...]]


class SagaStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    COMPENSATION_FAILED = "compensation_failed"


class SagaSummary(Shape):
    """`id` is the order's. `compensation_failed` has ended with something owed, and waits for a person."""

    id: str
    workflow: str = WORKFLOW
    status: SagaStatus
    started_at: datetime


class SagaIncident(IncidentView):
    step: StepName


class SagaView(SagaSummary):
    """`traceId` is that of the request which placed the order; null where it has none."""

    trace_id: str | None
    steps: list[TimelineEntry]
    incidents: list[SagaIncident]


_DRIVEN = sa.or_(orders.c.lease_until.is_not(None), orders.c.due_at.is_not(None))
_STOPPED = sa.and_(
    sa.not_(_DRIVEN), orders.c.payment_status.in_([PaymentStatus.PROCESSING, PaymentStatus.REFUND_PENDING])
)
_STATUS = sa.case(
    (_DRIVEN, SagaStatus.RUNNING.value),
    (_STOPPED, SagaStatus.COMPENSATION_FAILED.value),
    else_=SagaStatus.COMPLETED.value,
).label("saga_status")


class Sagas:
    """A tenant's."""

    def __init__(self, db: Database, tenant: str) -> None:
        self._db = db
        self._tenant = tenant

    async def page(self, *, status: SagaStatus | None, before: str | None, limit: int) -> list[SagaSummary]:
        """Newest first (ids are UUIDv7), strictly older than `before`."""
        query = sa.select(orders.c.id, orders.c.created_at, _STATUS).where(orders.c.tenant == self._tenant)
        query = query.order_by(orders.c.id.desc()).limit(limit)
        if status is not None:
            query = query.where(*self._of_status(status))
        if before is not None:
            query = query.where(orders.c.id < before)
        return [SagaSummary(**_facts(row)) for row in await self._db.read(lambda conn: list(conn.execute(query)))]

    async def get(self, saga_id: str) -> SagaView:
        """Raises SagaNotFound or OrderOfOtherTenant."""
        row, failures = await self._db.read(
            lambda conn: (
                self._select(conn, saga_id),
                incidents_of(conn, incidents, self._tenant, saga_id, SagaIncident),
            )
        )
        steps = await timeline_of(self._db, self._tenant, saga_id)
        trace_id = trace_id_in(row.traceparent)
        return SagaView(**_facts(row), trace_id=trace_id, steps=steps, incidents=failures)

    async def take_up(self, saga_id: str, *, by: str) -> OrderRef:
        """Somebody must drive it again, and does if the caller dies: it is due. Raises SagaNotFailed besides."""

        def work(conn: sa.Connection) -> OrderRef:
            this = sa.and_(orders.c.tenant == self._tenant, orders.c.id == saga_id)
            due = sa.update(orders).where(this, _STOPPED).values(due_at=now())
            row = conn.execute(due.returning(orders.c.tenant_name, orders.c.traceparent)).one_or_none()
            if row is None:
                raise SagaNotFailed(self._select(conn, saga_id).saga_status)
            take_up(conn, incidents, self._tenant, saga_id, by=by)
            return OrderRef(tenant=self._tenant, tenant_name=row.tenant_name, id=saga_id, traceparent=row.traceparent)

        return await self._db.write(work)

    def _select(self, conn: sa.Connection, saga_id: str) -> Row:
        query = sa.select(orders.c.id, orders.c.created_at, orders.c.traceparent, _STATUS)
        row = conn.execute(query.where(orders.c.tenant == self._tenant, orders.c.id == saga_id)).one_or_none()
        if row is None:
            raise OrderOfOtherTenant if elsewhere(conn, orders, self._tenant, id=saga_id) else SagaNotFound
        return row

    def _of_status(self, status: SagaStatus) -> list[sa.ColumnElement[bool]]:
        """Of the few that don't just stand there the ids come from an index of their own: not every order is read."""
        match status:
            case SagaStatus.RUNNING:
                leased, due = (
                    sa.select(orders.c.id).where(c.is_not(None)) for c in (orders.c.lease_until, orders.c.due_at)
                )
                return [orders.c.id.in_(sa.union(leased, due))]
            case SagaStatus.COMPENSATION_FAILED:
                its = sa.and_(incidents.c.tenant == self._tenant, incidents.c.retried_at.is_(None), incidents.c.stops)
                return [_STOPPED, orders.c.id.in_(sa.select(incidents.c.saga_id).where(its))]
            case SagaStatus.COMPLETED:
                return [sa.not_(_DRIVEN), sa.not_(_STOPPED)]


def _facts(row: Row) -> dict[str, Any]:
    return {"id": row.id, "status": SagaStatus(row.saga_status), "started_at": row.created_at}
