"""What callers' Idempotency-Keys stand for."""

from typing import Literal, cast

import sqlalchemy as sa

from chassis.db import upsert
from chassis.ids import now
from notification import tables
from notification.domain import IdempotencyMismatch


class Keys:
    """What a tenant's callers' Idempotency-Keys stand for."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def find(self, key: str, body_hash: str) -> str | None:
        """What `key` stands for. Raises IdempotencyMismatch."""
        table = tables.keys
        query = sa.select(table).where(table.c.tenant == self._tenant, table.c.key == key)
        if (known := self._conn.execute(query).one_or_none()) is None:
            return None
        if known.body_hash != body_hash:
            raise IdempotencyMismatch
        return cast("str", known.made)

    def take(self, key: str, body_hash: str, made: str) -> str | Literal[True]:
        """True when `key` now stands for `made`; else what it stood for before. Raises IdempotencyMismatch."""
        table = tables.keys
        row = {"tenant": self._tenant, "key": key, "body_hash": body_hash, "made": made, "created_at": now()}
        if self._conn.execute(upsert(self._conn, table).values(row).on_conflict_do_nothing()).rowcount == 1:
            return True
        known = self.find(key, body_hash)
        if known is None:
            raise AssertionError(key)  # keys are deleted a day later, by nobody else
        return known
