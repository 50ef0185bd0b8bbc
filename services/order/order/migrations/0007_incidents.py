"""Steps that failed for good."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "incidents",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("saga_id", sa.String(64), primary_key=True),
        sa.Column("step", sa.String(64), primary_key=True),
        sa.Column("at", Timestamp, primary_key=True),
        sa.Column("error", sa.String(255), nullable=False),
        sa.Column("stops", sa.Boolean, nullable=False),
        sa.Column("retried_at", Timestamp),
        sa.Column("retried_by", sa.String(255)),
    )
    waiting = sa.text("retried_at IS NULL")
    op.create_index(
        "ix_incidents_open", "incidents", ["tenant", "saga_id"], sqlite_where=waiting, postgresql_where=waiting
    )


def downgrade() -> None:
    op.drop_table("incidents")
