"""Clients, portfolios, securities and transactions, runs, watermarks and the quarantine; the outbox and leases."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from chassis.db import Timestamp

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _records()
    _runs()
    op.create_table(
        "quarantine",
        sa.Column("id", sa.String(36), primary_key=True),
        *_place(),
        sa.Column("entity", sa.String(16), nullable=False),
        sa.Column("item", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("seen_at", Timestamp, nullable=False),
        sa.UniqueConstraint("tenant", "source", "entity", "item", name="uq_quarantine_item"),
    )
    op.create_index("ix_quarantine_page", "quarantine", ["tenant", "id"])
    _of_every_service()


def _place() -> tuple[sa.Column[Any], ...]:
    return sa.Column("tenant", sa.String(64), nullable=False), sa.Column("source", sa.String(64), nullable=False)


def _synced(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.String(36), primary_key=True),
        *_place(),
        sa.Column("external_id", sa.String(64), nullable=False),
        *columns,
        sa.Column("fingerprint", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("updated_at", Timestamp, nullable=False),
        sa.Column("last_sync_at", Timestamp, nullable=False),
        sa.Column("seen_in", sa.String(36), nullable=False),
        sa.Column("deleted_at", Timestamp),
        sa.UniqueConstraint("tenant", "source", "external_id", name=f"uq_{name}_external_id"),
    )
    op.create_index(f"ix_{name}_page", name, ["tenant", "id"])


def _records() -> None:
    _synced(
        "clients",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("phone", sa.String(64), nullable=False),
        sa.Column("phone_e164", sa.String(16), nullable=False),
        sa.Column("address", sa.String(512), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
    )
    _synced(
        "portfolios",
        sa.Column("client_external_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("account_number", sa.String(64), nullable=False),
        sa.Column("account_type", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
    )
    op.create_index("ix_portfolios_client", "portfolios", ["tenant", "source", "client_external_id", "id"])
    _synced(
        "securities",
        sa.Column("symbol", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("isin", sa.String(12), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
    )
    _synced(
        "transactions",
        sa.Column("portfolio_external_id", sa.String(64), nullable=False),
        sa.Column("security_external_id", sa.String(64)),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("quantity", sa.String(32)),
        sa.Column("price", sa.String(32)),
        sa.Column("amount", sa.String(32), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("trade_date", sa.Date),
    )
    op.create_index("ix_transactions_portfolio", "transactions", ["tenant", "source", "portfolio_external_id", "id"])


def _runs() -> None:
    op.create_table(
        "sync_logs",
        sa.Column("id", sa.String(36), primary_key=True),
        *_place(),
        sa.Column("entity", sa.String(16), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("start_time", Timestamp, nullable=False),
        sa.Column("end_time", Timestamp),
        *(
            sa.Column(name, sa.Integer, nullable=False)
            for name in ("inserted", "updated", "unchanged", "deleted", "errors")
        ),
        sa.Column("error_message", sa.String(255)),
        sa.Column("since", Timestamp),
        sa.Column("cursor", sa.Text),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("held_until", Timestamp, nullable=False),
    )
    running = sa.text("status = 'InProgress'")
    op.create_index(
        "uq_sync_logs_running",
        "sync_logs",
        ["tenant", "source", "entity"],
        unique=True,
        sqlite_where=running,
        postgresql_where=running,
    )
    op.create_index("ix_sync_logs_page", "sync_logs", ["tenant", "id"])
    op.create_index("ix_sync_logs_ended", "sync_logs", ["end_time"])
    op.create_table(
        "watermarks",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("entity", sa.String(16), primary_key=True),
        sa.Column("watermark", Timestamp, nullable=False),
    )


def _of_every_service() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("held_until", Timestamp, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("tenant_name", sa.String(255), nullable=False, server_default=""),
        sa.Column("aggregate_id", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("published_at", Timestamp),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("parked_until", Timestamp),
        sa.Column("error", sa.String(255)),
    )
    published = sa.text("published_at IS NULL")
    op.create_index("ix_outbox_waiting", "outbox", ["seq"], sqlite_where=published, postgresql_where=published)
    op.create_index("ix_outbox_published", "outbox", ["published_at"])


def downgrade() -> None:
    tables = ("outbox", "leases", "quarantine", "watermarks", "sync_logs", "transactions", "securities", "portfolios")
    for name in (*tables, "clients"):
        op.drop_table(name)
