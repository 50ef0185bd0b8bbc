"""The last runs of recurring work."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_runs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error", sa.String(64), nullable=False),
        sa.Column("started_at", Timestamp, nullable=False),
        sa.Column("duration_ms", sa.Float),
    )
    op.create_index("ix_job_runs_job", "job_runs", ["job", "id"])


def downgrade() -> None:
    op.drop_table("job_runs")
