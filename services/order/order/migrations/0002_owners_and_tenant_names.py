"""A user's own orders by index, and the tenant's name for whoever drives an order later."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("tenant_name", sa.String(255), server_default="", nullable=False))
    op.create_index("ix_orders_tenant_owner", "orders", ["tenant", "owner", "id"])


def downgrade() -> None:
    op.drop_index("ix_orders_tenant_owner", "orders")
    op.drop_column("orders", "tenant_name")
