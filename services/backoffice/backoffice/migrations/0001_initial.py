"""What every service has: events taken and to be published, the change feed, leases."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "event_processing",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("consumer", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(255), primary_key=True, server_default="*"),
        sa.Column("event_id", sa.String(255), primary_key=True),
        sa.Column("processed_at", Timestamp, nullable=False),
    )
    op.create_index("ix_event_processing_processed", "event_processing", ["processed_at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("held_until", Timestamp, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("tenant_name", sa.String(255), nullable=False, server_default=""),
        sa.Column("aggregate_id", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("published_at", Timestamp),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("parked_until", Timestamp),
        sa.Column("error", sa.String(255)),
    )
    published = sa.text("published_at IS NULL")
    op.create_index("ix_outbox_waiting", "outbox", ["seq"], sqlite_where=published, postgresql_where=published)
    op.create_index("ix_outbox_published", "outbox", ["published_at"])
    op.create_table(
        "changes",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("position", sa.BigInteger, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
    )
    waiting, placed = sa.text("position IS NULL"), sa.text("position IS NOT NULL")
    op.create_index("ix_changes_waiting", "changes", ["seq"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_index(
        "ix_changes_replay",
        "changes",
        ["topic", "tenant", "key", "position"],
        sqlite_where=placed,
        postgresql_where=placed,
    )


def downgrade() -> None:
    for name in ("outbox", "leases", "event_processing", "changes"):
        op.drop_table(name)
