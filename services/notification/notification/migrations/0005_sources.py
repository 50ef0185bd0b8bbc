"""An event is known by its source and id; a dead letter has the app that could not process it."""

import hashlib
from typing import Any, cast

import orjson
import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_APP = "notification-service"  # so far nobody else's were kept
_DEFAULTS = {"source": "*"}  # see chassis.events
_LETTERS = sa.table("dead_letters", *map(sa.column, ("id", "topic", "body", "source", "key")))


def upgrade() -> None:
    op.add_column("sagas", sa.Column("source", sa.String(255), server_default="", nullable=False))
    _known_by("source", "event_id")
    with op.batch_alter_table("dead_letters") as table:
        table.add_column(sa.Column("app", sa.String(64), nullable=False, server_default=_APP))
        table.add_column(sa.Column("source", sa.String(255), nullable=False, server_default=""))
        table.add_column(sa.Column("key", sa.String(64), nullable=False, server_default=""))
        table.drop_constraint("uq_dead_letters_event", type_="unique")
    for row in op.get_bind().execute(sa.select(_LETTERS)).all():
        source, key = _source_and_key(row.topic, row.body)
        op.execute(sa.update(_LETTERS).where(_LETTERS.c.id == row.id).values(source=source[:255], key=key))
    with op.batch_alter_table("dead_letters") as table:
        for name, length in (("app", 64), ("source", 255), ("key", 64)):
            table.alter_column(name, existing_type=sa.String(length), server_default=None)
        table.create_unique_constraint("uq_dead_letters_key", ["tenant", "key"])


def downgrade() -> None:
    with op.batch_alter_table("dead_letters") as table:
        table.drop_constraint("uq_dead_letters_key", type_="unique")
        for name in ("app", "source", "key"):
            table.drop_column(name)
        table.create_unique_constraint("uq_dead_letters_event", ["tenant", "topic", "event_id"])
    _known_by("event_id")
    op.drop_column("sagas", "source")


def _known_by(*columns: str) -> None:
    """Another primary key is another table."""
    key = ("tenant", "consumer", *columns)
    op.drop_index("ix_event_processing_processed", "event_processing")
    op.create_table(
        "event_processing_next",
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("consumer", sa.String(64), nullable=False),
        *(sa.Column(name, sa.String(255), nullable=False, server_default=_DEFAULTS.get(name)) for name in columns),
        sa.Column("processed_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint(*key, name=f"pk_event_processing_{len(key)}"),
    )
    op.execute(
        "INSERT INTO event_processing_next (tenant, consumer, event_id, processed_at)"
        " SELECT tenant, consumer, event_id, min(processed_at) FROM event_processing"
        " GROUP BY tenant, consumer, event_id"
    )
    op.drop_table("event_processing")
    op.rename_table("event_processing_next", "event_processing")
    op.create_index("ix_event_processing_processed", "event_processing", ["processed_at"])


def _source_and_key(topic: str, body: str) -> tuple[str, str]:
    """As incoming.dead_letters makes them."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    event = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    source, event_id = (value if isinstance(value := event.get(name), str) else "" for name in ("source", "id"))
    known_by = (source, event_id) if event_id else (hashlib.sha256(body.encode()).hexdigest(),)
    return source, hashlib.sha256("\x00".join((_APP, topic, *known_by)).encode()).hexdigest()
