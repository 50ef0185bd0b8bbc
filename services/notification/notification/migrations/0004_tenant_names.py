"""Events tell the name of their tenant too, and a saga keeps it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("tenant_name", sa.String(255), server_default="", nullable=False))
    op.add_column("sagas", sa.Column("tenant_name", sa.String(255), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("sagas", "tenant_name")
    op.drop_column("outbox", "tenant_name")
