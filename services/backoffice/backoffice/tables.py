"""The back office's database. Alembic's versions in migrations/ build exactly this; a test compares them."""

import sqlalchemy as sa

from chassis.changes.feed import changes_table
from chassis.db import Timestamp
from chassis.events import event_processing_table
from chassis.job_runs import job_runs_table
from chassis.leases import leases_table
from chassis.outbox import outbox_table

metadata = sa.MetaData()

_OPEN = sa.text("completed_at IS NULL")
_FILE = sa.text("file IS NOT NULL")

event_processing = event_processing_table(metadata)
leases = leases_table(metadata)
job_runs = job_runs_table(metadata)
outbox = outbox_table(metadata)
changes = changes_table(metadata)

_NOT_STORED = sa.text("status <> 'stored'")

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("category", sa.String(64), nullable=False),
    sa.Column("name", sa.String(48), nullable=False),  # the id and the extension
    sa.Column("original_name", sa.String(255), nullable=False),
    sa.Column("content_type", sa.String(128), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("uploaded_by", sa.String(255), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Index("ix_files_tenant", "tenant", "id"),
    sa.Index("ix_files_uploaded_by", "tenant", "uploaded_by", "id"),
    sa.Index("ix_files_not_stored", "id", sqlite_where=_NOT_STORED, postgresql_where=_NOT_STORED),
)

# A tenant's own, or under "" what concerns all tenants. A deleted one stays for its version, without a value.
settings = sa.Table(
    "settings",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text),  # JSON
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("last_modified", Timestamp, nullable=False),
    sa.Column("modified_by", sa.String(255), nullable=False),
)

setting_history = sa.Table(
    "setting_history",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("value", sa.Text),  # JSON; none where it was deleted
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    sa.Column("modified_at", Timestamp, nullable=False),
    sa.Column("modified_by", sa.String(255), nullable=False),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("tenant_name", sa.String(255), nullable=False, server_default=""),
    sa.Column("user_id", sa.String(255), nullable=False),  # whose it is, whoever asked for it
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("arguments", sa.Text, nullable=False),  # what is to be done, as JSON
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("columns", sa.Text),  # as JSON, from the first page on; how many rows there are, too
    sa.Column("total", sa.Integer),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("file", sa.String(512)),  # of one that is completed, for as long as it is kept
    sa.Column("error", sa.String(255)),
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("started_at", Timestamp),
    sa.Column("completed_at", Timestamp),
    sa.Index("ix_jobs_user", "tenant", "user_id", "id"),
    sa.Index("ix_jobs_open", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
    sa.Index("ix_jobs_file", "completed_at", sqlite_where=_FILE, postgresql_where=_FILE),
)

# What of an export has been read: the next page is behind `next`. Of two that read the same page the first counts.
export_parts = sa.Table(
    "export_parts",
    metadata,
    sa.Column("job_id", sa.String(36), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("object", sa.String(128), nullable=False),
    sa.Column("next", sa.String(36)),
)
