"""Who was erased: their id at the source, hashed, by which no later word of the source brings them back."""

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from chassis.db import among, take_turns, upsert
from chassis.erasure import hash_of
from datasource.domain import Entity
from datasource.tables import erasures


def take_turn(conn: sa.Connection, tenant: str, entity: Entity = Entity.CLIENTS) -> None:
    """Before anything else that is done to clients: what is written beside an erasure comes before it or after it."""
    take_turns(conn, [f"{tenant}:erasures"] if entity is Entity.CLIENTS else [])


def note_erasure(conn: sa.Connection, tenant: str, person_id: str, at: datetime) -> None:
    row = {"tenant": tenant, "person": hash_of(tenant, person_id), "erased_at": at}
    conn.execute(upsert(conn, erasures).values(row).on_conflict_do_nothing())


def erased_among(conn: sa.Connection, tenant: str, entity: Entity, external_ids: Collection[str]) -> frozenset[str]:
    """Of clients; of nothing else anybody is erased."""
    if entity is not Entity.CLIENTS:
        return frozenset()
    by_hash = {hash_of(tenant, external_id): external_id for external_id in external_ids}
    query = sa.select(erasures.c.person).where(erasures.c.tenant == tenant, among(conn, erasures.c.person, by_hash))
    return frozenset(by_hash[person] for person in conn.execute(query).scalars())
