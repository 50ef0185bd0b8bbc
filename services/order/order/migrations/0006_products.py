"""A tenant's own products, and stock moves."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "products",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("sku", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("featured", sa.Boolean, nullable=False),
        sa.Column("sort_order", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("variations", sa.Text, nullable=False),
        sa.Column("changed_by", sa.String(255), nullable=False),
        sa.Column("changed_at", Timestamp, nullable=False),
        sa.Column("deleted_at", Timestamp),
    )
    op.create_table(
        "stock_moves",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("sku", sa.String(64), nullable=False),
        sa.Column("variation", sa.String(64)),
        sa.Column("delta", sa.Integer, nullable=False),
        sa.Column("balance", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("at", Timestamp, nullable=False),
        sa.Column("key", sa.String(64)),
    )
    op.create_index("ix_stock_moves_sku", "stock_moves", ["tenant", "sku", "id"])
    keyed = sa.text("key IS NOT NULL")
    op.create_index(
        "ix_stock_moves_key",
        "stock_moves",
        ["tenant", "key"],
        unique=True,
        sqlite_where=keyed,
        postgresql_where=keyed,
    )


def downgrade() -> None:
    op.drop_table("stock_moves")
    op.drop_table("products")
