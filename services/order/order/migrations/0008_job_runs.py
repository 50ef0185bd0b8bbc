"""The last runs of recurring work; health over time, and figures by the hour."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0008"
down_revision = "0007"
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
    op.create_table(
        "health_results",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("checks", sa.Text, nullable=False),
        sa.Column("changed", sa.Boolean, nullable=False),
        sa.Column("at", Timestamp, nullable=False),
        sa.Index("ix_health_results_at", "at"),
    )
    op.create_table(
        "hourly_metrics",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("hour", Timestamp, primary_key=True),
        sa.Column("orders", sa.Integer, nullable=False),
        sa.Column("by_status", sa.Text, nullable=False),
        sa.Column("revenue", sa.Text, nullable=False),
        sa.Column("p95_ms", sa.Text, nullable=False),
        sa.Column("collected_at", Timestamp, nullable=False),
        sa.Index("ix_hourly_metrics_hour", "hour"),
    )


def downgrade() -> None:
    op.drop_table("hourly_metrics")
    op.drop_table("health_results")
    op.drop_table("job_runs")
