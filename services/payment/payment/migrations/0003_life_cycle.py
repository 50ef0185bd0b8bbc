"""Moves, events, webhooks, keys of the refund API, and other providers to turn to."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("payments", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("payments", sa.Column("others", sa.String(128), server_default="", nullable=False))
    op.create_index("ix_payments_tenant", "payments", ["tenant", "id"])
    op.create_index("ix_payments_key", "payments", ["key"])
    op.create_index("ix_payments_processed", "payments", ["tenant", "processed_at"])
    op.add_column("refunds", sa.Column("transaction_id", sa.String(128)))
    op.create_index("ix_refunds_key", "refunds", ["key"])
    op.create_index("ix_refunds_processed", "refunds", ["tenant", "processed_at"])
    op.create_table(
        "moves",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("payment_id", sa.String(36), nullable=False),
        sa.Column("refund_id", sa.String(36)),
        sa.Column("from_status", sa.String(24), nullable=False),
        sa.Column("to_status", sa.String(24), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("reason", sa.String(255)),
        sa.Column("reference", sa.String(128)),
        sa.Column("at", Timestamp(), nullable=False),
    )
    op.create_index("ix_moves_payment", "moves", ["tenant", "payment_id", "id"])
    op.create_table(
        "refund_keys",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("refund_id", sa.String(36)),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    op.create_table(
        "webhooks",
        sa.Column("provider", sa.String(16), primary_key=True),
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("received_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_webhooks_received", "webhooks", ["received_at"])
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("aggregate_id", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("published_at", Timestamp()),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("parked_until", Timestamp()),
        sa.Column("error", sa.String(255)),
    )
    waiting = sa.text("published_at IS NULL")
    op.create_index("ix_outbox_waiting", "outbox", ["seq"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_index("ix_outbox_published", "outbox", ["published_at"])


def downgrade() -> None:
    for table in ("outbox", "webhooks", "refund_keys", "moves"):
        op.drop_table(table)
    for name in ("ix_refunds_processed", "ix_refunds_key"):
        op.drop_index(name, "refunds")
    op.drop_column("refunds", "transaction_id")
    for name in ("ix_payments_processed", "ix_payments_key", "ix_payments_tenant"):
        op.drop_index(name, "payments")
    op.drop_column("payments", "others")
    op.drop_column("payments", "version")
