"""The data source's database. Alembic's versions in migrations/ build exactly this; a test compares them.

A child names its parent as the source does, by its external id, whether or not the parent is here yet: until it is,
nothing shows the child (store.py), and nobody has to remember to let it in.
"""

from typing import Any

import sqlalchemy as sa

from chassis.changes.feed import changes_table
from chassis.db import Timestamp
from chassis.flags.snapshot import snapshot_table
from chassis.job_runs import job_runs_table
from chassis.leases import leases_table
from chassis.outbox import outbox_table
from datasource.domain import Entity, SyncStatus

metadata = sa.MetaData()


def _synced(name: str, *columns: sa.Column[Any] | sa.Index) -> sa.Table:
    """`seen_in` is the run that saw the row last; a full run tells by it what is there no more. Neither it nor
    `last_sync_at` is in an index: every row that is seen moves them."""
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
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
        sa.Index(f"ix_{name}_page", "tenant", "id"),
    )


clients = _synced(
    "clients",
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("email", sa.String(254), nullable=False),
    sa.Column("phone", sa.String(64), nullable=False),
    sa.Column("phone_e164", sa.String(16), nullable=False),
    sa.Column("address", sa.String(512), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
)

portfolios = _synced(
    "portfolios",
    sa.Column("client_external_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("account_number", sa.String(64), nullable=False),
    sa.Column("account_type", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Index("ix_portfolios_client", "tenant", "source", "client_external_id", "id"),
)

securities = _synced(
    "securities",
    sa.Column("symbol", sa.String(32), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("isin", sa.String(12), nullable=False),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
)

transactions = _synced(
    "transactions",
    sa.Column("portfolio_external_id", sa.String(64), nullable=False),
    sa.Column("security_external_id", sa.String(64)),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("quantity", sa.String(32)),
    sa.Column("price", sa.String(32)),
    sa.Column("amount", sa.String(32), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("trade_date", sa.Date),
    sa.Index("ix_transactions_portfolio", "tenant", "source", "portfolio_external_id", "id"),
)

OF_ENTITY = {
    Entity.CLIENTS: clients,
    Entity.PORTFOLIOS: portfolios,
    Entity.SECURITIES: securities,
    Entity.TRANSACTIONS: transactions,
}

_RUNNING = sa.text(f"status = '{SyncStatus.IN_PROGRESS}'")

# One run of an entity at a time, by the index: `owner` has it until `held_until`, and renews that while it lives.
sync_logs = sa.Table(
    "sync_logs",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("entity", sa.String(16), nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("start_time", Timestamp, nullable=False),
    sa.Column("end_time", Timestamp),
    sa.Column("inserted", sa.Integer, nullable=False),
    sa.Column("updated", sa.Integer, nullable=False),
    sa.Column("unchanged", sa.Integer, nullable=False),
    sa.Column("deleted", sa.Integer, nullable=False),
    sa.Column("errors", sa.Integer, nullable=False),
    sa.Column("error_message", sa.String(255)),
    sa.Column("since", Timestamp),
    sa.Column("cursor", sa.Text),
    sa.Column("owner", sa.String(36), nullable=False),
    sa.Column("held_until", Timestamp, nullable=False),
    sa.Index(
        "uq_sync_logs_running",
        "tenant",
        "source",
        "entity",
        unique=True,
        sqlite_where=_RUNNING,
        postgresql_where=_RUNNING,
    ),
    sa.Index("ix_sync_logs_page", "tenant", "id"),
    sa.Index("ix_sync_logs_ended", "end_time"),
)

# The newest `updatedAt` of an entity's rows up to which all are here, but for what the source commits late.
watermarks = sa.Table(
    "watermarks",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("source", sa.String(64), primary_key=True),
    sa.Column("entity", sa.String(16), primary_key=True),
    sa.Column("watermark", Timestamp, nullable=False),
)

# Items that could not be taken, the newest word of each. `item` is its external id, or a hash of it where it has none;
# `run_id` is the run that saw it last.
quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("entity", sa.String(16), nullable=False),
    sa.Column("item", sa.String(64), nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("run_id", sa.String(36), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("seen_at", Timestamp, nullable=False),
    sa.UniqueConstraint("tenant", "source", "entity", "item", name="uq_quarantine_item"),
    sa.Index("ix_quarantine_page", "tenant", "id"),
)

# Who is not taken from the source any more: a person's external id, hashed.
erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("person", sa.String(64), primary_key=True),
    sa.Column("erased_at", Timestamp, nullable=False),
)

outbox = outbox_table(metadata)
changes = changes_table(metadata)
settings_snapshot = snapshot_table(metadata)
leases = leases_table(metadata)
job_runs = job_runs_table(metadata)
