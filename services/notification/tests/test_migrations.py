import json

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import notification
from chassis import migrations
from chassis.events import first_time
from notification.incoming.dead_letters import dead_letter, keep_once
from notification.tables import dead_letters, event_processing, metadata

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


def _differences(url):
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": False}), metadata)
    engine.dispose()
    return differences


def test_the_migrations_build_the_tables(migrated):
    assert _differences(f"sqlite:///{migrated}") == []


@pytest.fixture
def old(tmp_path):
    """A database as 0001 left it, with one row, and what brings it up to date."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    command.upgrade(migrations.config(url, notification, metadata), "0001")
    engine = sa.create_engine(url)
    table = sa.table("notifications", *map(sa.column, OLD_ROW))

    def upgraded(**changed):
        with engine.begin() as connection:
            connection.execute(sa.insert(table).values(OLD_ROW | changed))
            connection.execute(
                sa.text("INSERT INTO orders (tenant, order_id, version, status) VALUES ('t','o-1',2,'ready')")
            )
        migrations.upgrade(url, notification, metadata)
        with engine.connect() as connection:
            return dict(connection.execute(sa.text("SELECT * FROM notifications")).mappings().one())

    yield url, engine, upgraded
    engine.dispose()


def test_what_was_there_before_owners_is_the_recipients(old):
    url, engine, upgraded = old
    row = upgraded()

    kept = {name: value for name, value in OLD_ROW.items() if name != "order_id"}
    assert kept.items() <= row.items()
    assert (row["owner"], row["subject_id"], row["topic"]) == ("c-1", "o-1", "orders")
    assert (row["effect"], row["category"], row["chain"], row["critical"]) == ("n-1", "OrderUpdates", "", 0)
    command.downgrade(migrations.config(url, notification, metadata), "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]


def test_what_was_heard_of_orders_is_kept_as_what_was_heard_of_subjects(old):
    _, engine, upgraded = old
    upgraded()
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT tenant, topic, subject_id, version FROM subjects")).all()
    assert [tuple(row) for row in found] == [("t", "orders", "o-1", 2)]


def test_what_was_superseded_is_suppressed(old):
    row = old[2](channel="push", status="superseded")
    assert (row["status"], row["error"], row["latest_only"]) == ("suppressed", "superseded", 1)


def test_what_was_queued_is_sent_in_the_words_of_today(old):
    row = old[2](status="queued", context='{"order_id": "o-1", "items": [{"unit_price": "1"}]}')
    assert row["template"] == "order-confirmed"
    assert json.loads(row["context"]) == {"orderId": "o-1", "items": [{"unitPrice": "1"}]}


def test_what_was_taken_and_what_had_died_before_sources_were_kept_is_known_again(tmp_path):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    command.upgrade(migrations.config(url, notification, metadata), "0004")
    body = json.dumps({"id": "e-1", "source": "/s", "type": "x"})
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO event_processing VALUES ('default', 'c', 'e-1', '2025-01-01')"))
        died = "INSERT INTO dead_letters VALUES ('d-1', 'default', 'orders', 'e-1', 'x', :body, '2025-01-01', NULL)"
        connection.execute(sa.text(died), {"body": body})
    migrations.upgrade(url, notification, metadata)
    with engine.begin() as connection:
        new = first_time(connection, event_processing, tenant="default", consumer="c", source="/s", event_id="e-1")
        letter = dead_letter(body.encode(), app_id="notification-service", topic="orders")
        keep_once(connection, letter)
        (kept,) = connection.execute(sa.select(dead_letters)).all()
    engine.dispose()
    assert not new
    assert (kept.id, kept.app, kept.source, kept.key) == ("d-1", "notification-service", "/s", letter.key)


def _plan(migrated, query):
    engine = sa.create_engine(f"sqlite:///{migrated}")
    with engine.connect() as connection:
        plan = " ".join(row.detail for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {query}")))
    engine.dispose()
    return plan


@pytest.mark.parametrize("column", ["next_attempt_at", "lease_until"])
def test_looking_for_due_rows_reads_no_sent_ones(migrated, column):
    due = "SELECT * FROM notifications WHERE {} <= '2025' AND channel = 'sms' ORDER BY {} LIMIT 64"
    plan = _plan(migrated, due.replace("{}", column))
    assert f"(channel=? AND {column}<?)" in plan
    assert "SCAN" not in plan
    assert "TEMP" not in plan


def test_looking_for_receipts_that_never_came_reads_none_that_did(migrated):
    plan = _plan(migrated, "SELECT * FROM notifications WHERE ask_at <= '2025' ORDER BY ask_at LIMIT 100")
    assert "ix_notifications_ask (ask_at<?)" in plan
    assert "TEMP" not in plan


def test_a_users_history_is_read_in_its_order(migrated):
    plan = _plan(
        migrated, "SELECT * FROM notifications WHERE tenant = 't' AND owner = 'u' AND id < 'n' ORDER BY id DESC"
    )
    assert "ix_notifications_owner (tenant=? AND owner=? AND id<?)" in plan
    assert "TEMP" not in plan


def test_whose_a_saga_is_takes_no_look_at_the_others(migrated):
    plan = _plan(migrated, "SELECT tenant FROM sagas WHERE correlation_id = 's' AND tenant <> 't' LIMIT 1")
    assert "ix_sagas_correlation (correlation_id=?)" in plan


def test_down_and_up_again_they_build_the_same(tmp_path):
    url = f"sqlite:///{tmp_path / 'down.db'}"
    migrations.upgrade(url, notification, metadata)
    command.downgrade(migrations.config(url, notification, metadata), "0002")
    migrations.upgrade(url, notification, metadata)
    assert _differences(url) == []
