"""The payment database. Alembic's versions in migrations/ build exactly this; a test compares them."""

import sqlalchemy as sa

from chassis.changes.feed import changes_table
from chassis.db import Timestamp
from chassis.flags.snapshot import snapshot_table
from chassis.job_runs import job_runs_table
from chassis.leases import leases_table
from chassis.outbox import outbox_table

metadata = sa.MetaData()

payments = sa.Table(
    "payments",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("tenant_name", sa.String(255), nullable=False, server_default=""),
    sa.Column("key", sa.String(255), nullable=False),
    sa.Column("order_id", sa.String(64), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),  # minor units
    sa.Column("refunded", sa.BigInteger, nullable=False, server_default="0"),  # reserved or refunded, minor units
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("method", sa.String(16), nullable=False),
    sa.Column("description", sa.String(255), nullable=False, server_default=""),  # for the statement, in its words
    sa.Column("card_token", sa.Text),  # sealed; gone once the charge is final
    sa.Column("status", sa.String(24), nullable=False),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("provider", sa.String(16), nullable=False),
    sa.Column("others", sa.String(128), nullable=False, server_default=""),  # to turn to, in order, comma-separated
    sa.Column("transaction_id", sa.String(128)),
    sa.Column("reason", sa.String(255)),
    sa.Column("given_up", sa.Boolean, nullable=False, server_default=sa.false()),  # only looked up from then on
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("first_posted_at", Timestamp),
    sa.Column("posted_until", Timestamp),  # no attempt of ours reaches the provider after this
    sa.Column("processed_at", Timestamp),
    sa.Column("next_check_at", Timestamp),
    sa.Column("claimed_until", Timestamp),  # one replica drives; a dead one's claim expires
    sa.UniqueConstraint("tenant", "key", name="uq_payments_tenant_key"),
    sa.CheckConstraint("refunded >= 0 AND refunded <= amount", name="ck_payments_refunded"),
    sa.Index("ix_payments_order", "tenant", "order_id"),
    sa.Index("ix_payments_tenant", "tenant", "id"),
    sa.Index("ix_payments_key", "key"),  # a provider's webhook knows no tenant
    sa.Index("ix_payments_processed", "tenant", "processed_at"),
    sa.Index(
        "ix_payments_due",
        "next_check_at",
        sqlite_where=sa.text("next_check_at IS NOT NULL"),
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
    ),
)

refunds = sa.Table(
    "refunds",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("tenant_name", sa.String(255), nullable=False, server_default=""),
    sa.Column("key", sa.String(255), nullable=False),
    sa.Column("payment_id", sa.String(36), sa.ForeignKey("payments.id", name="fk_refunds_payment"), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),  # minor units
    sa.Column("asked", sa.BigInteger),  # `amount` is less where less was left of it; null in rows older than this
    sa.Column("begun", sa.Integer, nullable=False, server_default="1"),  # how often: a failed one is begun again
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("transaction_id", sa.String(128)),  # the provider's id of it
    sa.Column("reason", sa.String(255)),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("first_posted_at", Timestamp),
    sa.Column("posted_until", Timestamp),
    sa.Column("processed_at", Timestamp),
    sa.Column("next_check_at", Timestamp),
    sa.Column("claimed_until", Timestamp),
    sa.UniqueConstraint("tenant", "key", name="uq_refunds_tenant_key"),
    sa.Index("ix_refunds_payment", "payment_id"),
    sa.Index("ix_refunds_key", "key"),
    sa.Index("ix_refunds_processed", "tenant", "processed_at"),
    sa.Index(
        "ix_refunds_due",
        "next_check_at",
        sqlite_where=sa.text("next_check_at IS NOT NULL"),
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
    ),
)

# Every move of a payment or refund: who, when, why, and the provider's reference. Only ever added to.
moves = sa.Table(
    "moves",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("payment_id", sa.String(36), nullable=False),
    sa.Column("refund_id", sa.String(36)),
    sa.Column("from_status", sa.String(24), nullable=False),
    sa.Column("to_status", sa.String(24), nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("reason", sa.String(255)),
    sa.Column("reference", sa.String(128)),
    sa.Column("at", Timestamp, nullable=False),
    sa.Index("ix_moves_payment", "tenant", "payment_id", "id"),
)

# What an Idempotency-Key of the refund API was answered: a refund, or the refusal that it got.
refund_keys = sa.Table(
    "refund_keys",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(64), primary_key=True),  # hash of caller and key
    sa.Column("body_hash", sa.String(64), nullable=False),
    sa.Column("refund_id", sa.String(36)),
    sa.Column("created_at", Timestamp, nullable=False),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("provider", sa.String(16), primary_key=True),
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("received_at", Timestamp, nullable=False),
    sa.Index("ix_webhooks_received", "received_at"),
)

leases = leases_table(metadata)
job_runs = job_runs_table(metadata)
outbox = outbox_table(metadata)
changes = changes_table(metadata)
settings_snapshot = snapshot_table(metadata)
