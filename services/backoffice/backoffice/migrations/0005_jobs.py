"""Jobs, and what has been read of an export."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("tenant_name", sa.String(255), nullable=False, server_default=""),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("columns", sa.Text),
        sa.Column("total", sa.Integer),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("file", sa.String(512)),
        sa.Column("error", sa.String(255)),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("started_at", Timestamp),
        sa.Column("completed_at", Timestamp),
    )
    op.create_index("ix_jobs_user", "jobs", ["tenant", "user_id", "id"])
    unfinished, kept = sa.text("completed_at IS NULL"), sa.text("file IS NOT NULL")
    op.create_index("ix_jobs_open", "jobs", ["id"], sqlite_where=unfinished, postgresql_where=unfinished)
    op.create_index("ix_jobs_file", "jobs", ["completed_at"], sqlite_where=kept, postgresql_where=kept)
    op.create_table(
        "export_parts",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("object", sa.String(128), nullable=False),
        sa.Column("next", sa.String(36)),
    )


def downgrade() -> None:
    for name in ("export_parts", "jobs"):
        op.drop_table(name)
