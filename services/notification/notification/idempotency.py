"""What callers' Idempotency-Keys stand for."""

import hashlib
from typing import Literal, NamedTuple, Self, cast

import orjson
import sqlalchemy as sa

from chassis.db import upsert
from chassis.ids import now
from notification import tables
from notification.domain import IdempotencyMismatch


class Key(NamedTuple):
    """An Idempotency-Key of one caller for one kind of request, and the body it came with, both hashed."""

    hash: str
    body_hash: str

    @classmethod
    def of(cls, kind: str, caller: str, key: str, body: bytes) -> Self:
        holder = orjson.dumps([kind, caller, key])
        return cls(hashlib.sha256(holder).hexdigest(), hashlib.sha256(body).hexdigest())


class Keys:
    """What a tenant's callers' Idempotency-Keys stand for."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def find(self, key: Key) -> str | None:
        """What `key` stands for. Raises IdempotencyMismatch."""
        table = tables.keys
        query = sa.select(table).where(table.c.tenant == self._tenant, table.c.key == key.hash)
        if (known := self._conn.execute(query).one_or_none()) is None:
            return None
        if known.body_hash != key.body_hash:
            raise IdempotencyMismatch
        return cast("str", known.made)

    def take(self, key: Key, made: str) -> str | Literal[True]:
        """True when `key` now stands for `made`; else what it stood for before. Raises IdempotencyMismatch."""
        row = {"tenant": self._tenant, "key": key.hash, "body_hash": key.body_hash, "made": made, "created_at": now()}
        if self._conn.execute(upsert(self._conn, tables.keys).values(row).on_conflict_do_nothing()).rowcount == 1:
            return True
        if (known := self.find(key)) is None:
            raise AssertionError(key)  # keys are deleted a day later, by nobody else
        return known
