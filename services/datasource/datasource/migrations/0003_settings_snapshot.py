"""The change feed, and what is set as the back office told it last."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
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
    op.create_table(
        "settings_snapshot",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("settings_snapshot")
    op.drop_table("changes")
