import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from notification.tables import metadata


def test_the_migrations_build_the_tables(migrated):
    engine = sa.create_engine(f"sqlite:///{migrated}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": False}), metadata)
    engine.dispose()
    assert differences == []


def test_looking_for_due_rows_reads_no_sent_ones(migrated):
    engine = sa.create_engine(f"sqlite:///{migrated}")
    due = "SELECT id FROM notifications WHERE next_attempt_at <= '2025' OR lease_until <= '2025'"
    with engine.connect() as connection:
        plan = " ".join(row.detail for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {due}")))
    engine.dispose()
    assert "ix_notifications_next_attempt" in plan
    assert "ix_notifications_lease" in plan
    assert "SCAN" not in plan
