"""Whose a notification is, and ids of events that two tenants may share."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_EFFECT, _EVENT = "uq_notifications_effect", "uq_dead_letters_event"


def upgrade() -> None:
    op.add_column("notifications", sa.Column("owner", sa.String(255)))
    op.execute("UPDATE notifications SET owner = recipient_id")
    with op.batch_alter_table("notifications") as notifications:
        notifications.alter_column("owner", existing_type=sa.String(255), nullable=False)
        notifications.drop_constraint(_EFFECT, type_="unique")
        notifications.create_unique_constraint(_EFFECT, ["tenant", "event_id", "channel", "recipient_id"])
        notifications.create_index("ix_notifications_owner", ["tenant", "owner", "id"])
    with op.batch_alter_table("dead_letters") as letters:
        letters.drop_constraint(_EVENT, type_="unique")
        letters.create_unique_constraint(_EVENT, ["tenant", "topic", "event_id"])


def downgrade() -> None:
    with op.batch_alter_table("dead_letters") as letters:
        letters.drop_constraint(_EVENT, type_="unique")
        letters.create_unique_constraint(_EVENT, ["topic", "event_id"])
    with op.batch_alter_table("notifications") as notifications:
        notifications.drop_index("ix_notifications_owner")
        notifications.drop_constraint(_EFFECT, type_="unique")
        notifications.create_unique_constraint(_EFFECT, ["event_id", "channel", "recipient_id"])
        notifications.drop_column("owner")
