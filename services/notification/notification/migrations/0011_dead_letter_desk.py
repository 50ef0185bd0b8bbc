"""Dead letters are edited and discarded, and who did what is on record."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dead_letters", sa.Column("discarded_at", Timestamp))
    op.add_column("dead_letters", sa.Column("times", sa.Integer, nullable=False, server_default="1"))
    op.add_column("dead_letters", sa.Column("reason", sa.String(255), nullable=False, server_default=""))
    op.add_column("dead_letters", sa.Column("version", sa.Integer, nullable=False, server_default="1"))
    op.create_table(
        "dead_letter_moves",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("letter_id", sa.String(36), nullable=False),
        sa.Column("at", Timestamp, nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16)),
        sa.Column("reason", sa.String(255), nullable=False, server_default=""),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
    )
    op.create_index("ix_dead_letter_moves_letter", "dead_letter_moves", ["letter_id", "id"])


def downgrade() -> None:
    op.drop_table("dead_letter_moves")
    for name in ("version", "reason", "times", "discarded_at"):
        op.drop_column("dead_letters", name)
