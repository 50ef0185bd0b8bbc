"""Who was erased: their id hashed, and when. Whatever is older does not bring them back. What is newer may, for they
may come again."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from chassis.db import upsert
from chassis.erasure import ERASED, hash_of
from notification.tables import erasures


def is_erased(conn: sa.Connection, tenant: str, person_id: str, at: datetime) -> bool:
    """Of what was true of the person `at` that time."""
    if person_id == ERASED:
        return True
    known = {"of_tenant": tenant, "of_person": hash_of(tenant, person_id)}
    erased_at = conn.execute(_FIND, known).scalar_one_or_none()
    return erased_at is not None and at <= erased_at


def note_erasure(conn: sa.Connection, tenant: str, person_id: str, at: datetime) -> int:
    """How often this person has been erased."""
    row = {"tenant": tenant, "person": hash_of(tenant, person_id), "version": 1, "erased_at": at}
    noted = upsert(conn, erasures).values(row)
    again: dict[str, Any] = {"version": erasures.c.version + 1, "erased_at": at}
    noted = noted.on_conflict_do_update(index_elements=list(erasures.primary_key), set_=again)
    return conn.execute(noted.returning(erasures.c.version)).scalar_one()


_FIND = sa.select(erasures.c.erased_at).where(
    erasures.c.tenant == sa.bindparam("of_tenant"), erasures.c.person == sa.bindparam("of_person")
)
