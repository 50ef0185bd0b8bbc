"""Why a payment was declined, in a code; and whether the customer was told."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("decline_code", sa.String(32)))
    op.add_column("orders", sa.Column("notified", sa.String(16)))
    op.add_column("orders", sa.Column("notified_at", Timestamp()))
    op.add_column("orders", sa.Column("notified_by", sa.String(36)))
    op.add_column("orders", sa.Column("notified_version", sa.Integer()))


def downgrade() -> None:
    for name in ("notified_version", "notified_by", "notified_at", "notified", "decline_code"):
        op.drop_column("orders", name)
