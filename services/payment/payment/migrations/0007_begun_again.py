"""Which time a refund was begun, and the tenants' names for whoever drives a charge or refund later."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("refunds", sa.Column("begun", sa.Integer(), server_default="1", nullable=False))
    for table in ("payments", "refunds"):
        op.add_column(table, sa.Column("tenant_name", sa.String(255), server_default="", nullable=False))


def downgrade() -> None:
    for table in ("payments", "refunds"):
        op.drop_column(table, "tenant_name")
    op.drop_column("refunds", "begun")
