"""Notifications, the newest of each order, dead letters."""

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "event_processing",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("consumer", sa.String(64), primary_key=True),
        sa.Column("event_id", sa.String(255), primary_key=True),
        sa.Column("processed_at", Timestamp, nullable=False),
    )
    op.create_table(
        "orders",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("order_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(128), nullable=False),
        sa.Column("event_id", sa.String(255), nullable=False),
        sa.Column("type", sa.String(128), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("received_at", Timestamp, nullable=False),
        sa.Column("replayed_at", Timestamp),
        sa.UniqueConstraint("topic", "event_id", name="uq_dead_letters_event"),
    )
    op.create_index("ix_dead_letters_tenant", "dead_letters", ["tenant", "id"])
    _notifications()


def _notifications() -> None:
    op.create_table(
        "notifications",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("event_id", sa.String(255), nullable=False),
        sa.Column("order_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("recipient_id", sa.String(64), nullable=False),
        sa.Column("address", sa.String(320), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("template", sa.String(128), nullable=False),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", Timestamp),
        sa.Column("lease_until", Timestamp),
        sa.Column("subject", sa.String(255)),
        sa.Column("error", sa.String(255)),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("sent_at", Timestamp),
        sa.UniqueConstraint("event_id", "channel", "recipient_id", name="uq_notifications_effect"),
    )
    op.create_index("ix_notifications_recipient", "notifications", ["tenant", "recipient_id", "id"])
    op.create_index("ix_notifications_order", "notifications", ["tenant", "order_id", "id"])
    for name, column in (("next_attempt", "next_attempt_at"), ("lease", "lease_until")):
        waiting = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"ix_notifications_{name}", "notifications", [column], sqlite_where=waiting, postgresql_where=waiting
        )


def downgrade() -> None:
    for table in ("notifications", "dead_letters", "orders", "event_processing"):
        op.drop_table(table)
