import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import notification
from chassis import migrations
from notification.tables import metadata

OLD_ROW = {
    "id": "n-1",
    "tenant": "default",
    "event_id": "e-1",
    "order_id": "o-1",
    "version": 2,
    "recipient_id": "c-1",
    "address": "ada@example.com",
    "channel": "email",
    "template": "order_confirmed",
    "context": "{}",
    "status": "sent",
    "attempts": 1,
    "traceparent": "",
    "created_at": "2025-01-01 00:00:00.000000",
}


def test_the_migrations_build_the_tables(migrated):
    engine = sa.create_engine(f"sqlite:///{migrated}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": False}), metadata)
    engine.dispose()
    assert differences == []


def test_what_was_there_before_owners_is_the_recipients(tmp_path):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    command.upgrade(migrations.config(url, notification, metadata), "0001")
    engine = sa.create_engine(url)
    table = sa.table("notifications", *map(sa.column, OLD_ROW))
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(OLD_ROW))

    migrations.upgrade(url, notification, metadata)

    with engine.connect() as connection:
        found = connection.execute(sa.select(table, sa.column("owner"))).mappings().one()
    assert dict(found) == OLD_ROW | {"owner": "c-1"}
    command.downgrade(migrations.config(url, notification, metadata), "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def _plan(migrated, query):
    engine = sa.create_engine(f"sqlite:///{migrated}")
    with engine.connect() as connection:
        plan = " ".join(row.detail for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {query}")))
    engine.dispose()
    return plan


def test_looking_for_due_rows_reads_no_sent_ones(migrated):
    plan = _plan(migrated, "SELECT id FROM notifications WHERE next_attempt_at <= '2025' OR lease_until <= '2025'")
    assert "ix_notifications_next_attempt" in plan
    assert "ix_notifications_lease" in plan
    assert "SCAN" not in plan


def test_a_users_history_is_read_in_its_order(migrated):
    plan = _plan(
        migrated, "SELECT * FROM notifications WHERE tenant = 't' AND owner = 'u' AND id < 'n' ORDER BY id DESC"
    )
    assert "ix_notifications_owner (tenant=? AND owner=? AND id<?)" in plan
    assert "TEMP" not in plan
