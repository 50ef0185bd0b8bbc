"""The order database. Alembic's versions in migrations/ build exactly this; a test compares them."""

import sqlalchemy as sa

from chassis.changes.feed import changes_table
from chassis.db import Timestamp
from chassis.flags.snapshot import snapshot_table
from chassis.incidents import incidents_table
from chassis.job_runs import job_runs_table
from chassis.leases import leases_table
from chassis.outbox import outbox_table

metadata = sa.MetaData()

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("tenant_name", sa.String(255), server_default="", nullable=False),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("customer_id", sa.String(64), nullable=False),
    sa.Column("customer", sa.Text, nullable=False),
    sa.Column("items", sa.Text, nullable=False),
    sa.Column("total", sa.String(32), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("location", sa.String(16), nullable=False),
    sa.Column("tracking_number", sa.String(64)),
    sa.Column("payment_method", sa.String(16), nullable=False),
    sa.Column("payment_status", sa.String(16), nullable=False),
    sa.Column("payment_id", sa.String(36)),
    sa.Column("transaction_id", sa.String(128)),
    sa.Column("decline_code", sa.String(32)),  # of one whose payment failed
    sa.Column("card_token", sa.Text),  # sealed; gone once nothing will be charged any more
    sa.Column("notified", sa.String(16)),  # what became of the newest message about it
    sa.Column("notified_at", Timestamp),
    sa.Column("notified_by", sa.String(36)),  # that message: a later one has a greater id
    sa.Column("notified_version", sa.Integer),
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("lease_until", Timestamp),  # the inline driver's, never renewed
    sa.Column("due_at", Timestamp),  # somebody must look at this order by then
    sa.Index("ix_orders_tenant", "tenant", "id"),
    sa.Index("ix_orders_tenant_owner", "tenant", "owner", "id"),
    sa.Index("ix_orders_tenant_status", "tenant", "status", "id"),
    sa.Index("ix_orders_tenant_customer", "tenant", "customer_id", "id"),
    sa.Index(
        "ix_orders_lease",
        "lease_until",
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    ),
    sa.Index(
        "ix_orders_due",
        "due_at",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    ),
)

stock = sa.Table(
    "stock",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("sku", sa.String(64), primary_key=True),
    sa.Column("available", sa.Integer, sa.CheckConstraint("available >= 0", name="ck_stock_available"), nullable=False),
)

# Only what a tenant has changed; the rest is as it ships (catalog.json).
products = sa.Table(
    "products",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("sku", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("featured", sa.Boolean, nullable=False),
    sa.Column("sort_order", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("variations", sa.Text, nullable=False),
    sa.Column("changed_by", sa.String(255), nullable=False),  # "" is nobody: as it ships
    sa.Column("changed_at", Timestamp, nullable=False),
    sa.Column("deleted_at", Timestamp),
)

stock_moves = sa.Table(
    "stock_moves",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("sku", sa.String(64), nullable=False),
    sa.Column("variation", sa.String(64)),
    sa.Column("delta", sa.Integer, nullable=False),
    sa.Column("balance", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("key", sa.String(64)),  # the Idempotency-Key's hash, where there was one
    sa.Index("ix_stock_moves_sku", "tenant", "sku", "id"),
    sa.Index(
        "ix_stock_moves_key",
        "tenant",
        "key",
        unique=True,
        sqlite_where=sa.text("key IS NOT NULL"),
        postgresql_where=sa.text("key IS NOT NULL"),
    ),
)

timeline = sa.Table(
    "timeline",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("order_id", sa.String(36), primary_key=True),
    sa.Column("step", sa.String(32), primary_key=True),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("started_at", Timestamp, nullable=False),
    sa.Column("duration_ms", sa.Float, nullable=False),
    sa.Column("error", sa.String(255), nullable=False),
)

incidents = incidents_table(metadata)
outbox = outbox_table(metadata)
sa.Index("ix_outbox_aggregate", outbox.c.aggregate_id)  # what was told of one order (event_records.py)
changes = changes_table(metadata)
settings_snapshot = snapshot_table(metadata)
leases = leases_table(metadata)
job_runs = job_runs_table(metadata)

# What `/health` said, every few minutes.
health_results = sa.Table(
    "health_results",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("checks", sa.Text, nullable=False),
    sa.Column("changed", sa.Boolean, nullable=False),
    sa.Column("at", Timestamp, nullable=False),
    sa.Index("ix_health_results_at", "at"),
)

hourly_metrics = sa.Table(
    "hourly_metrics",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("hour", Timestamp, primary_key=True),
    sa.Column("orders", sa.Integer, nullable=False),
    sa.Column("by_status", sa.Text, nullable=False),
    sa.Column("revenue", sa.Text, nullable=False),
    sa.Column("p95_ms", sa.Text, nullable=False),
    sa.Column("collected_at", Timestamp, nullable=False),
    sa.Index("ix_hourly_metrics_hour", "hour"),
)
