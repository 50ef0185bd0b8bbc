"""Who was erased, by their id at the source, hashed."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("person", sa.String(64), primary_key=True),
        sa.Column("erased_at", Timestamp, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("erasures")
