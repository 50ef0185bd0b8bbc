"""What a charge is for, in the words of whoever asked for it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("payments", sa.Column("description", sa.String(255), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("payments", "description")
