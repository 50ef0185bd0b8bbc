"""Settings, and each of their versions."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "settings",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("last_modified", Timestamp, nullable=False),
        sa.Column("modified_by", sa.String(255), nullable=False),
    )
    op.create_table(
        "setting_history",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("value", sa.Text),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("modified_at", Timestamp, nullable=False),
        sa.Column("modified_by", sa.String(255), nullable=False),
    )


def downgrade() -> None:
    for name in ("setting_history", "settings"):
        op.drop_table(name)
