"""Events tell the name of their tenant too."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("tenant_name", sa.String(255), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("outbox", "tenant_name")
