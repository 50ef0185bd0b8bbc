"""The relay reads the head of a long queue, and what is set aside, without a walk through all that waits."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    set_aside, told = sa.text("published_at IS NULL AND parked_until IS NOT NULL"), sa.text("published_at IS NOT NULL")
    op.create_index("ix_outbox_parked", "outbox", ["parked_until"], sqlite_where=set_aside, postgresql_where=set_aside)
    op.drop_index("ix_outbox_published", "outbox")
    op.create_index("ix_outbox_published", "outbox", ["published_at"], sqlite_where=told, postgresql_where=told)


def downgrade() -> None:
    op.drop_index("ix_outbox_published", "outbox")
    op.create_index("ix_outbox_published", "outbox", ["published_at"])
    op.drop_index("ix_outbox_parked", "outbox")
