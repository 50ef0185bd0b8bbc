"""The notification database. Alembic's versions in migrations/ build exactly this; a test compares them."""

from typing import Any

import sqlalchemy as sa

from chassis.changes.feed import changes_table
from chassis.db import Timestamp
from chassis.events import event_processing_table
from chassis.flags.snapshot import snapshot_table
from chassis.incidents import incidents_table
from chassis.job_runs import job_runs_table
from chassis.leases import leases_table
from chassis.outbox import outbox_table

metadata = sa.MetaData()

event_processing = event_processing_table(metadata)
leases = leases_table(metadata)
job_runs = job_runs_table(metadata)
outbox = outbox_table(metadata)
changes = changes_table(metadata)
settings_snapshot = snapshot_table(metadata)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("effect", sa.String(64), nullable=False),  # a hash: whatever asks for it twice gets one
    sa.Column("owner", sa.String(255), nullable=False),  # who may see it, besides staff
    sa.Column("event_id", sa.String(255), nullable=False),
    sa.Column("topic", sa.String(64), nullable=False, server_default=""),
    sa.Column("subject_id", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("latest_only", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("recipient_id", sa.String(64), nullable=False),
    sa.Column("channel", sa.String(16), nullable=False),
    sa.Column("chain", sa.String(64), nullable=False, server_default=""),  # the channels that may take over
    sa.Column("address", sa.String(320), nullable=False),
    sa.Column("category", sa.String(64), nullable=False, server_default=""),
    sa.Column("template", sa.String(128), nullable=False),
    sa.Column("locale", sa.String(35), nullable=False, server_default="en"),
    sa.Column("context", sa.Text, nullable=False),
    sa.Column("critical", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("link", sa.String(32), nullable=False, server_default=""),
    sa.Column("group_id", sa.String(64), nullable=False, server_default=""),  # a bulk's or a saga's step's
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", Timestamp),  # of a queued one
    sa.Column("lease_until", Timestamp),  # of one that is being sent: another process may take it after that
    sa.Column("digest_of", sa.String(36)),  # the one that carries it; "" while it waits for its digest's time
    sa.Column("subject", sa.String(255)),
    sa.Column("content", sa.Text),  # as it was sent, the tokens of its links left out
    sa.Column("error", sa.String(255)),
    sa.Column("provider", sa.String(32)),
    sa.Column("provider_message_id", sa.String(128)),
    sa.Column("segments", sa.Integer),
    sa.Column("cost", sa.String(32)),
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("sent_at", Timestamp),
    sa.Column("delivered_at", Timestamp),
    sa.Column(
        "ask_at", Timestamp
    ),  # of one that waits for a receipt for which its provider can be asked: see receipts.status_polling
    sa.UniqueConstraint("tenant", "effect", name="uq_notifications_effect"),
    # One for every filter of the history, each in the order of its pages; behind the id what else is often asked.
    sa.Index("ix_notifications_tenant", "tenant", "id", "created_at"),
    sa.Index("ix_notifications_owner", "tenant", "owner", "id", "channel"),
    sa.Index("ix_notifications_recipient", "tenant", "recipient_id", "id", "owner", "channel"),
    sa.Index("ix_notifications_channel", "tenant", "channel", "id", "created_at"),
    sa.Index("ix_notifications_subject", "tenant", "subject_id", "id"),
    sa.Index("ix_notifications_group", "tenant", "group_id", "id", **_where("group_id <> ''")),
    sa.Index("ix_notifications_digest", "digest_of", **_where("digest_of IS NOT NULL")),
    sa.Index(
        "ix_notifications_receipt", "provider", "provider_message_id", **_where("provider_message_id IS NOT NULL")
    ),
    sa.Index("ix_notifications_next_attempt", "channel", "next_attempt_at", **_where("next_attempt_at IS NOT NULL")),
    sa.Index("ix_notifications_lease", "channel", "lease_until", **_where("lease_until IS NOT NULL")),
    sa.Index("ix_notifications_ask", "ask_at", **_where("ask_at IS NOT NULL")),
)


def of_group(tenant: str, group_id: str) -> sa.ColumnElement[bool]:
    """A bulk's messages, or a saga's step's. What its partial index says is said again, or SQLite would not use it."""
    c = notifications.c
    return sa.and_(c.tenant == tenant, c.group_id == group_id, sa.text("notifications.group_id <> ''"))


attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("notification_id", sa.String(36), nullable=False),
    sa.Column("channel", sa.String(16), nullable=False),
    sa.Column("provider", sa.String(32), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("error", sa.String(255)),
    sa.Column("ended_at", Timestamp, nullable=False),
    sa.Index("ix_attempts_notification", "notification_id", "id"),
)

# Receipts that came before the answer they belong to was written down: they wait here for it.
early_receipts = sa.Table(
    "early_receipts",
    metadata,
    sa.Column("provider", sa.String(32), primary_key=True),
    sa.Column("message_id", sa.String(128), primary_key=True),
    sa.Column("status", sa.String(16), primary_key=True),
    sa.Column("error", sa.String(255)),
    sa.Column("received_at", Timestamp, nullable=False),
    sa.Index("ix_early_receipts_received", "received_at"),
)

# The newest that was heard of each thing that events tell of.
subjects = sa.Table(
    "subjects",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("topic", sa.String(64), primary_key=True),
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)

contacts = sa.Table(
    "contacts",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("name", sa.String(1000), nullable=False),
    sa.Column("email", sa.String(320), nullable=False),
    sa.Column("email_key", sa.String(320), nullable=False),  # in lower case, to be found by
    sa.Column("phone", sa.String(16), nullable=False),  # E.164
    sa.Column("locale", sa.String(35), nullable=False),
    sa.Column("trusted", sa.Boolean, nullable=False, server_default=sa.false()),  # false: an API consumer's claim
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("as_of", Timestamp, nullable=False),  # when what is known was true
    sa.Index("ix_contacts_email", "tenant", "email_key"),
)

# Which contacts an event means that names a group, such as the staff of a branch.
contact_groups = sa.Table(
    "contact_groups",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("group_name", sa.String(64), primary_key=True),
    sa.Column("recipient_id", sa.String(64), primary_key=True),
    sa.Index("ix_contact_groups_recipient", "tenant", "recipient_id"),
)

preferences = sa.Table(
    "preferences",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("recipient_id", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("updated_at", Timestamp, nullable=False),
)

# Who was erased, and when: what is older than that does not bring them back. A hash, for their id is erased too.
erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("person", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("erased_at", Timestamp, nullable=False),
)

# Phone numbers that said STOP: all tenants', whoever has them.
stops = sa.Table(
    "stops",
    metadata,
    sa.Column("phone", sa.String(16), primary_key=True),
    sa.Column("stopped_at", Timestamp, nullable=False),
)

templates = sa.Table(
    "templates",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("category", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("locale", sa.String(35), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("status", sa.String(16), nullable=False),  # draft, published, retired
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("sample", sa.Text, nullable=False),
    sa.Column("author", sa.String(255), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("published_at", Timestamp),
)

# A tenant's own routes of an event, which take the place of those that ship.
routes = sa.Table(
    "routes",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("topic", sa.String(64), primary_key=True),
    sa.Column("type", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("updated_at", Timestamp, nullable=False),
)

sagas = sa.Table(
    "sagas",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("correlation_id", sa.String(64), primary_key=True),
    sa.Column("tenant_name", sa.String(255), nullable=False, server_default=""),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("source", sa.String(255), nullable=False, server_default=""),
    sa.Column("event_id", sa.String(255), nullable=False),
    sa.Column("topic", sa.String(64), nullable=False),
    sa.Column("type", sa.String(128), nullable=False),
    sa.Column("subject_id", sa.String(64), nullable=False),
    sa.Column("recipient_id", sa.String(64), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("routes", sa.Text, nullable=False),  # as they were when the event came
    sa.Column("current_step", sa.String(64), nullable=False),
    sa.Column("steps", sa.Text, nullable=False),
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.Column("started_at", Timestamp, nullable=False),
    sa.Column("step_started_at", Timestamp, nullable=False),
    sa.Column("completed_at", Timestamp),
    sa.Column("due_at", Timestamp),  # when somebody should look whether it still runs
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("ix_sagas_correlation", "correlation_id", "tenant"),  # whose it is, where it is not the asking tenant's
    sa.Index("ix_sagas_tenant", "tenant", "started_at", "correlation_id"),
    sa.Index("ix_sagas_due", "due_at", **_where("due_at IS NOT NULL")),
)

incidents = incidents_table(metadata)

bulks = sa.Table(
    "bulks",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("author", sa.String(255), nullable=False),
    sa.Column("channel", sa.String(16), nullable=False),
    sa.Column("chain", sa.String(64), nullable=False),
    sa.Column("category", sa.String(64), nullable=False),
    sa.Column("template", sa.String(64), nullable=False),
    sa.Column("context", sa.Text, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("taken", sa.Integer, nullable=False),  # recipients, in order, that have their notification or refusal
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("taken_at", Timestamp),  # when the last one was
    sa.Column("turn_at", Timestamp, nullable=False),  # its place in the line: see bulk.worker
    sa.Index("ix_bulks_tenant", "tenant", "id"),
    sa.Index("ix_bulks_waiting", "turn_at", **_where("taken_at IS NULL")),
)

bulk_recipients = sa.Table(
    "bulk_recipients",
    metadata,
    sa.Column("bulk_id", sa.String(36), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("recipient_id", sa.String(64), nullable=False),
    sa.Column("context", sa.Text, nullable=False),
    sa.Column("notification_id", sa.String(36)),
    sa.Column("error", sa.String(255)),
)

# What a caller's Idempotency-Key stands for.
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(64), primary_key=True),  # a hash of route, caller and key
    sa.Column("body_hash", sa.String(64), nullable=False),
    sa.Column("made", sa.String(36), nullable=False),  # the id of what it made
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Index("ix_keys_created", "created_at"),
)

password_resets = sa.Table(
    "password_resets",
    metadata,
    sa.Column("token_hash", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("recipient_id", sa.String(64), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("ended_at", Timestamp),  # redeemed or revoked
    sa.Index("ix_password_resets_recipient", "tenant", "recipient_id", "created_at"),
    sa.Index("ix_password_resets_created", "created_at"),
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("key", sa.String(64), nullable=False),  # a hash of all that it is known by, however long that is
    sa.Column("app", sa.String(64), nullable=False),
    sa.Column("topic", sa.String(128), nullable=False),
    sa.Column("source", sa.String(255), nullable=False),
    sa.Column("event_id", sa.String(255), nullable=False),
    sa.Column("type", sa.String(128), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("received_at", Timestamp, nullable=False),
    sa.Column("replayed_at", Timestamp),
    sa.Column("discarded_at", Timestamp),
    sa.Column("times", sa.Integer, nullable=False, server_default="1"),  # that it came here
    sa.Column("reason", sa.String(255), nullable=False, server_default=""),  # its app's, when it was last replayed
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.UniqueConstraint("tenant", "key", name="uq_dead_letters_key"),
    sa.Index("ix_dead_letters_tenant", "tenant", "id"),
)

# What people did to dead letters.
dead_letter_moves = sa.Table(
    "dead_letter_moves",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("letter_id", sa.String(36), nullable=False),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("by", sa.String(255), nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("outcome", sa.String(16)),  # of a replay, once it is known
    sa.Column("reason", sa.String(255), nullable=False, server_default=""),
    sa.Column("before", sa.Text),  # the body, where it was edited
    sa.Column("after", sa.Text),
    sa.Index("ix_dead_letter_moves_letter", "letter_id", "id"),
)
