"""The change feed."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0008"
down_revision = "0007"
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


def downgrade() -> None:
    op.drop_table("changes")
