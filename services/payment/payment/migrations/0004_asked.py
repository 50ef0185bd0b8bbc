"""How much a refund was asked to give back, which may be more than was left."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("refunds", sa.Column("asked", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("refunds", "asked")
