"""Steps that failed for good, on record: of which saga, by what, and who had it tried again."""

from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa

from chassis.db import Timestamp, upsert
from chassis.ids import now
from chassis.saga import Incident
from chassis.wire import Wire


def incidents_table(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "incidents",
        metadata,
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("saga_id", sa.String(64), primary_key=True),
        sa.Column("step", sa.String(64), primary_key=True),
        sa.Column("at", Timestamp, primary_key=True),
        sa.Column("error", sa.String(255), nullable=False),
        sa.Column("stops", sa.Boolean, nullable=False),  # nobody drove its saga any more
        sa.Column("retried_at", Timestamp),
        sa.Column("retried_by", sa.String(255)),
        sa.Index(
            "ix_incidents_open",
            "tenant",
            "saga_id",
            sqlite_where=sa.text("retried_at IS NULL"),
            postgresql_where=sa.text("retried_at IS NULL"),
        ),
    )


class IncidentView(Wire):
    """Of a step, which a service says in its own words. `error` is an error's class, or a refusal's word. `stops`: the
    saga stood still, else it went on without the step. `retriedBy` is the subject of the admin who had it tried again,
    null until then."""

    error: str
    at: datetime
    stops: bool
    retried_at: datetime | None
    retried_by: str | None


V = TypeVar("V", bound=IncidentView)


def record_incident(
    conn: sa.Connection, table: sa.Table, *, tenant: str, saga_id: str, incident: Incident, step: str = ""
) -> bool:
    """False where it stands there already. `step` is its name where the title doesn't tell."""
    row = {
        "tenant": tenant,
        "saga_id": saga_id,
        "step": step or incident.step.title,
        "at": incident.at,
        "error": incident.error[:255],
        "stops": incident.stops,
    }
    return conn.execute(upsert(conn, table).values(row).on_conflict_do_nothing()).rowcount == 1


def incidents_of(conn: sa.Connection, table: sa.Table, tenant: str, saga_id: str, view: type[V]) -> list[V]:
    """Oldest first."""
    its = sa.and_(table.c.tenant == tenant, table.c.saga_id == saga_id)
    found = conn.execute(sa.select(table).where(its).order_by(table.c.at, table.c.step)).mappings()
    return [view(**{name: row[name] for name in view.model_fields}) for row in found]


def take_up(conn: sa.Connection, table: sa.Table, tenant: str, saga_id: str, *, by: str) -> list[str]:
    """Write down who has the saga tried again; the steps that had failed."""
    waiting = sa.and_(table.c.tenant == tenant, table.c.saga_id == saga_id, table.c.retried_at.is_(None))
    taken = sa.update(table).where(waiting).values(retried_at=now(), retried_by=by).returning(table.c.step)
    return list(conn.execute(taken).scalars())
