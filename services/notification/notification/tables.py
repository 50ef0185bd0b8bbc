"""The notification database. Alembic's versions in migrations/ build exactly this; a test compares them."""

import sqlalchemy as sa

from chassis.db import Timestamp
from chassis.events import event_processing_table

metadata = sa.MetaData()

event_processing = event_processing_table(metadata)

notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("owner", sa.String(255), nullable=False),  # who may see it, besides staff
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
    sa.Column("next_attempt_at", Timestamp),  # of a queued one
    sa.Column("lease_until", Timestamp),  # of one that is being sent: another process may take it after that
    sa.Column("subject", sa.String(255)),
    sa.Column("error", sa.String(255)),
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("sent_at", Timestamp),
    sa.UniqueConstraint("tenant", "event_id", "channel", "recipient_id", name="uq_notifications_effect"),
    sa.Index("ix_notifications_owner", "tenant", "owner", "id"),
    sa.Index("ix_notifications_recipient", "tenant", "recipient_id", "id"),
    sa.Index("ix_notifications_order", "tenant", "order_id", "id"),
    sa.Index(
        "ix_notifications_next_attempt",
        "next_attempt_at",
        sqlite_where=sa.text("next_attempt_at IS NOT NULL"),
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
    ),
    sa.Index(
        "ix_notifications_lease",
        "lease_until",
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    ),
)

# The newest that was heard of each order.
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("order_id", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("topic", sa.String(128), nullable=False),
    sa.Column("event_id", sa.String(255), nullable=False),
    sa.Column("type", sa.String(128), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("received_at", Timestamp, nullable=False),
    sa.Column("replayed_at", Timestamp),
    sa.UniqueConstraint("tenant", "topic", "event_id", name="uq_dead_letters_event"),
    sa.Index("ix_dead_letters_tenant", "tenant", "id"),
)
