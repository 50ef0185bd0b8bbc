"""The table of the change feed, and what its rows say."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from chassis.db import Timestamp
from chassis.ids import now
from chassis.retention import BATCH, before


def changes_table(metadata: sa.MetaData) -> sa.Table:
    waiting, placed = sa.text("position IS NULL"), sa.text("position IS NOT NULL")
    return sa.Table(
        "changes",
        metadata,
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("position", sa.BigInteger, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Index("ix_changes_waiting", "seq", sqlite_where=waiting, postgresql_where=waiting),
        sa.Index(
            "ix_changes_replay", "topic", "tenant", "key", "position", sqlite_where=placed, postgresql_where=placed
        ),
    )


class Entry(NamedTuple):
    """A change to be told; `data` is JSON-able, `key` at most 128 characters."""

    tenant: str
    topic: str
    key: str
    data: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A change that was told. `position` grows by commit as everybody sees it; live readers' `Last-Event-ID`."""

    position: int
    tenant: str
    topic: str
    key: str
    data: Any
    created_at: datetime


def row_of(entry: Entry) -> dict[str, Any]:
    """Without a position yet."""
    return {**entry._asdict(), "data": orjson.dumps(entry.data).decode(), "created_at": now()}


def change_of(row: sa.Row[Any]) -> Change:
    """Raises ValueError where `data` is no JSON."""
    return Change(
        position=row.position,
        tenant=row.tenant,
        topic=row.topic,
        key=row.key,
        data=orjson.loads(row.data),
        created_at=row.created_at,
    )


def oldest(table: sa.Table) -> sa.Delete:
    """The first rows, as far as they are old; never the newest one, from which the next position is counted."""
    first = sa.select(table.c.position).where(table.c.position.is_not(None)).order_by(table.c.position).limit(BATCH)
    newest = sa.select(sa.func.max(table.c.position)).scalar_subquery()
    return sa.delete(table).where(table.c.position.in_(first), table.c.position < newest, table.c.created_at < before())
