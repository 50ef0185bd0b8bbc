"""One person's data: what has come of them from the source, and its erasure. Portfolios and transactions stay, under
the client's id at the source; without their client nobody is shown them."""

from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from datasource.domain import Entity
from datasource.erasures import note_erasure, take_turn
from datasource.events import CustomerChanged
from datasource.tables import clients, outbox, portfolios, quarantine

Rows = list[dict[str, Any]]


def held(conn: sa.Connection, tenant: str, person_id: str) -> dict[str, Rows]:
    """Also of a client that is at the source no more, and of what could not be taken."""
    owned = (portfolios.c.tenant == tenant, portfolios.c.client_external_id == person_id)
    return {
        "clients": [
            {
                "id": row.id,
                "externalId": row.external_id,
                "name": row.name,
                "email": row.email,
                "phone": row.phone,
                "address": row.address,
                "status": row.status,
                "createdAt": row.created_at,
                "updatedAt": row.updated_at,
                "deletedAt": row.deleted_at,
            }
            for row in conn.execute(sa.select(clients).where(*_client(tenant, person_id)).order_by(clients.c.id))
        ],
        "portfolios": [
            {"id": row.id, "externalId": row.external_id}
            for row in conn.execute(sa.select(portfolios).where(*owned).order_by(portfolios.c.id))
        ],
        "quarantine": [
            {"id": row.id, "reason": row.reason, "payload": orjson.loads(row.payload), "seenAt": row.seen_at}
            for row in conn.execute(sa.select(quarantine).where(*_item(tenant, person_id)).order_by(quarantine.c.id))
        ],
    }


def erase_person(conn: sa.Connection, tenant: str, person_id: str, *, at: datetime) -> None:
    """Whether or not they are here: they may be on their way. Once more, it finds nothing."""
    take_turn(conn, tenant)
    note_erasure(conn, tenant, person_id, at)
    conn.execute(sa.delete(clients).where(*_client(tenant, person_id)))
    conn.execute(sa.delete(quarantine).where(*_item(tenant, person_id)))
    told = (outbox.c.tenant == tenant, outbox.c.type == CustomerChanged.type, outbox.c.aggregate_id == person_id)
    conn.execute(sa.delete(outbox).where(*told))  # what still waits would bring them back elsewhere


def _client(tenant: str, person_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return clients.c.tenant == tenant, clients.c.external_id == person_id


def _item(tenant: str, person_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return quarantine.c.tenant == tenant, quarantine.c.entity == Entity.CLIENTS, quarantine.c.item == person_id
