"""Receipts, chains of channels, contacts, preferences, templates, routes, sagas, bulks, resets, the change feed."""

import json
from typing import Any, cast

import sqlalchemy as sa
from alembic import op
from pydantic.alias_generators import to_camel

from chassis.db import Timestamp

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _notifications()
    _renamed_templates()
    _chassis()
    _delivery()
    _people()
    _words()
    _work()


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


_WIDER = {
    "owner": ["tenant", "owner", "id", "channel"],
    "recipient": ["tenant", "recipient_id", "id", "owner", "channel"],
}
_DUE = {"next_attempt": "next_attempt_at", "lease": "lease_until"}


def _added() -> list[sa.Column[Any]]:
    """New ones each time: a column belongs to one table."""
    return [
        sa.Column("effect", sa.String(64)),
        sa.Column("topic", sa.String(64), nullable=False, server_default=""),
        sa.Column("latest_only", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("chain", sa.String(64), nullable=False, server_default=""),
        sa.Column("category", sa.String(64), nullable=False, server_default=""),
        sa.Column("locale", sa.String(35), nullable=False, server_default="en"),
        sa.Column("critical", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("link", sa.String(32), nullable=False, server_default=""),
        sa.Column("group_id", sa.String(64), nullable=False, server_default=""),
        sa.Column("digest_of", sa.String(36)),
        sa.Column("provider", sa.String(32)),
        sa.Column("provider_message_id", sa.String(128)),
        sa.Column("segments", sa.Integer),
        sa.Column("cost", sa.String(32)),
        sa.Column("delivered_at", Timestamp),
        sa.Column("ask_at", Timestamp),
    ]


def _notifications() -> None:
    op.drop_index("ix_notifications_order", "notifications")
    for column in _added():
        op.add_column("notifications", column)
    op.execute(
        "UPDATE notifications SET effect = id, topic = 'orders', category = 'OrderUpdates',"
        " latest_only = (channel = 'push')"
    )
    op.execute("UPDATE notifications SET status = 'suppressed', error = 'superseded' WHERE status = 'superseded'")
    with op.batch_alter_table("notifications") as table:
        table.alter_column("effect", existing_type=sa.String(64), nullable=False)
        table.alter_column("order_id", existing_type=sa.String(64), new_column_name="subject_id")
        table.drop_constraint("uq_notifications_effect", type_="unique")
        table.create_unique_constraint("uq_notifications_effect", ["tenant", "effect"])
    for name, columns in _WIDER.items():
        op.drop_index(f"ix_notifications_{name}", "notifications")
        op.create_index(f"ix_notifications_{name}", "notifications", columns)
    for name, column in _DUE.items():
        op.drop_index(f"ix_notifications_{name}", "notifications")
        where = _where(f"{column} IS NOT NULL")
        op.create_index(f"ix_notifications_{name}", "notifications", ["channel", column], **where)
    for name, columns in (
        ("tenant", ["tenant", "id", "created_at"]),
        ("channel", ["tenant", "channel", "id", "created_at"]),
        ("subject", ["tenant", "subject_id", "id"]),
    ):
        op.create_index(f"ix_notifications_{name}", "notifications", columns)
    op.create_index("ix_notifications_group", "notifications", ["tenant", "group_id", "id"], **_where("group_id <> ''"))
    op.create_index("ix_notifications_digest", "notifications", ["digest_of"], **_where("digest_of IS NOT NULL"))
    op.create_index(
        "ix_notifications_receipt",
        "notifications",
        ["provider", "provider_message_id"],
        **_where("provider_message_id IS NOT NULL"),
    )
    op.create_index("ix_notifications_ask", "notifications", ["ask_at"], **_where("ask_at IS NOT NULL"))


def _renamed_templates() -> None:
    """What was queued before this version is sent after it, in the templates of today: they read camelCase."""
    table = sa.table("notifications", *map(sa.column, ("id", "status", "template", "context")))
    conn = op.get_bind()
    waiting = sa.select(table.c.id, table.c.template, table.c.context).where(table.c.status.in_(("queued", "sending")))
    for row in conn.execute(waiting).all():
        renamed = {"template": row.template.replace("_", "-"), "context": json.dumps(_camel(json.loads(row.context)))}
        conn.execute(sa.update(table).where(table.c.id == row.id).values(renamed))


def _camel(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel(one) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {to_camel(name): _camel(one) for name, one in cast("dict[str, Any]", value).items()}
    return value


def _chassis() -> None:
    op.create_index("ix_event_processing_processed", "event_processing", ["processed_at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("held_until", Timestamp, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
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
    op.create_index("ix_outbox_waiting", "outbox", ["seq"], **_where("published_at IS NULL"))
    op.create_index("ix_outbox_published", "outbox", ["published_at"])
    op.create_table(
        "changes",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("position", sa.BigInteger, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
    )
    op.create_index("ix_changes_waiting", "changes", ["seq"], **_where("position IS NULL"))
    placed = _where("position IS NOT NULL")
    op.create_index("ix_changes_replay", "changes", ["topic", "tenant", "key", "position"], **placed)


def _delivery() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("notification_id", sa.String(36), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("error", sa.String(255)),
        sa.Column("ended_at", Timestamp, nullable=False),
    )
    op.create_index("ix_attempts_notification", "attempts", ["notification_id", "id"])
    op.create_table(
        "early_receipts",
        sa.Column("provider", sa.String(32), primary_key=True),
        sa.Column("message_id", sa.String(128), primary_key=True),
        sa.Column("status", sa.String(16), primary_key=True),
        sa.Column("error", sa.String(255)),
        sa.Column("received_at", Timestamp, nullable=False),
    )
    op.create_index("ix_early_receipts_received", "early_receipts", ["received_at"])
    op.create_table(
        "subjects",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("topic", sa.String(64), primary_key=True),
        sa.Column("subject_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.execute(
        "INSERT INTO subjects (tenant, topic, subject_id, version)"
        " SELECT tenant, 'orders', order_id, version FROM orders"
    )
    op.drop_table("orders")


def _people() -> None:
    op.create_table(
        "contacts",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("name", sa.String(1000), nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("email_key", sa.String(320), nullable=False),
        sa.Column("phone", sa.String(16), nullable=False),
        sa.Column("locale", sa.String(35), nullable=False),
        sa.Column("trusted", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("as_of", Timestamp, nullable=False),
    )
    op.create_index("ix_contacts_email", "contacts", ["tenant", "email_key"])
    op.create_table(
        "contact_groups",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("group_name", sa.String(64), primary_key=True),
        sa.Column("recipient_id", sa.String(64), primary_key=True),
    )
    op.create_index("ix_contact_groups_recipient", "contact_groups", ["tenant", "recipient_id"])
    op.create_table(
        "preferences",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("recipient_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("updated_at", Timestamp, nullable=False),
    )
    op.create_table(
        "stops",
        sa.Column("phone", sa.String(16), primary_key=True),
        sa.Column("stopped_at", Timestamp, nullable=False),
    )
    op.create_table(
        "password_resets",
        sa.Column("token_hash", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("recipient_id", sa.String(64), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("expires_at", Timestamp, nullable=False),
        sa.Column("ended_at", Timestamp),
    )
    op.create_index("ix_password_resets_recipient", "password_resets", ["tenant", "recipient_id", "created_at"])
    op.create_index("ix_password_resets_created", "password_resets", ["created_at"])


def _words() -> None:
    op.create_table(
        "templates",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("category", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("locale", sa.String(35), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("sample", sa.Text, nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("published_at", Timestamp),
    )
    op.create_table(
        "routes",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("topic", sa.String(64), primary_key=True),
        sa.Column("type", sa.String(128), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("updated_at", Timestamp, nullable=False),
    )


def _work() -> None:
    op.create_table(
        "sagas",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("correlation_id", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("event_id", sa.String(255), nullable=False),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("type", sa.String(128), nullable=False),
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("recipient_id", sa.String(64), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("routes", sa.Text, nullable=False),
        sa.Column("current_step", sa.String(64), nullable=False),
        sa.Column("steps", sa.Text, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("started_at", Timestamp, nullable=False),
        sa.Column("step_started_at", Timestamp, nullable=False),
        sa.Column("completed_at", Timestamp),
        sa.Column("due_at", Timestamp),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("ix_sagas_correlation", "sagas", ["correlation_id", "tenant"])
    op.create_index("ix_sagas_due", "sagas", ["due_at"], **_where("due_at IS NOT NULL"))
    op.create_table(
        "bulks",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("chain", sa.String(64), nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("template", sa.String(64), nullable=False),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("taken", sa.Integer, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("taken_at", Timestamp),
        sa.Column("turn_at", Timestamp, nullable=False),
    )
    op.create_index("ix_bulks_tenant", "bulks", ["tenant", "id"])
    op.create_index("ix_bulks_waiting", "bulks", ["turn_at"], **_where("taken_at IS NULL"))
    op.create_table(
        "bulk_recipients",
        sa.Column("bulk_id", sa.String(36), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("recipient_id", sa.String(64), nullable=False),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("notification_id", sa.String(36)),
        sa.Column("error", sa.String(255)),
    )
    op.create_table(
        "keys",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("made", sa.String(36), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
    )
    op.create_index("ix_keys_created", "keys", ["created_at"])


def downgrade() -> None:
    """Statuses and templates that 0002 doesn't know stay as they are."""
    for table in (
        "keys",
        "bulk_recipients",
        "bulks",
        "sagas",
        "routes",
        "templates",
        "password_resets",
        "stops",
        "preferences",
        "contact_groups",
        "contacts",
        "subjects",
        "early_receipts",
        "attempts",
        "changes",
        "outbox",
        "leases",
    ):
        op.drop_table(table)
    op.drop_index("ix_event_processing_processed", "event_processing")
    op.create_table(
        "orders",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("order_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
    )
    for name in ("tenant", "channel", "subject", "group", "digest", "receipt", "ask"):
        op.drop_index(f"ix_notifications_{name}", "notifications")
    for name in _WIDER:
        op.drop_index(f"ix_notifications_{name}", "notifications")
        op.create_index(f"ix_notifications_{name}", "notifications", _WIDER[name][:3])
    for name, column in _DUE.items():
        op.drop_index(f"ix_notifications_{name}", "notifications")
        op.create_index(f"ix_notifications_{name}", "notifications", [column], **_where(f"{column} IS NOT NULL"))
    with op.batch_alter_table("notifications") as table:
        table.drop_constraint("uq_notifications_effect", type_="unique")
        table.alter_column("subject_id", existing_type=sa.String(64), new_column_name="order_id")
        for column in _added():
            table.drop_column(column.name)
    with op.batch_alter_table("notifications") as table:  # a batch of its own: it reads the columns as they are now
        table.create_unique_constraint("uq_notifications_effect", ["tenant", "event_id", "channel", "recipient_id"])
        table.create_index("ix_notifications_order", ["tenant", "order_id", "id"])
