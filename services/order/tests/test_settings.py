"""What is set from outside, and that the migrations build what the code expects."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import ValidationError
from pydantic_settings import SettingsError

import order
from chassis import migrations
from chassis.db import Database
from order import tables
from order.catalog import load_shipped
from order.settings import Settings

APP_TOKEN = "app-token-of-the-tests"


@pytest.fixture(autouse=True)
def app_token(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APP_API_TOKEN", APP_TOKEN)


def test_the_migrations_build_exactly_the_tables_in_code(database_url: str):
    engine = sa.create_engine(database_url, poolclass=sa.pool.NullPool)
    with engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), tables.metadata) == []


def test_migrating_again_changes_nothing(database_url: str):
    migrations.upgrade(database_url, order, tables.metadata)


def test_the_ports_are_the_contracts():
    settings = Settings()

    assert (settings.app_port, settings.dapr_http_port, settings.host) == (8001, 3501, "127.0.0.1")
    assert settings.wait_seconds == 5.0


def test_everything_can_be_set_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APP_PORT", "9001")
    monkeypatch.setenv("DAPR_HTTP_PORT", "9501")
    monkeypatch.setenv("ORDER_DATABASE_URL", "postgresql://db/orders")
    monkeypatch.setenv("CORS_ORIGINS", "https://board.example, https://till.example")
    monkeypatch.setenv("ORDER_RATE_LIMITS", '{"POST /api/v1/orders": "10/second"}')
    monkeypatch.setenv("ORDER_CATALOG_FILE", "/etc/catalog.json")

    settings = Settings()

    assert (settings.app_port, settings.dapr_http_port) == (9001, 9501)
    assert settings.catalog_file == Path("/etc/catalog.json")
    assert not Database(settings.database_url).exclusive
    assert settings.cors_origins == ("https://board.example", "https://till.example")
    assert settings.rate_limits == {"POST /api/v1/orders": "10/second"}
    assert APP_TOKEN not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_API_TOKEN", ""),
        ("APP_API_TOKEN", "short"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://*.example"),
        ("AUTH_ALGORITHMS", "HS256"),
        ("AUTH_ALGORITHMS", "RS256,none"),
        ("AUTH_ALGORITHMS", ""),
        ("RATE_LIMIT", "often"),
        ("ORDER_RATE_LIMITS", '{"POST /api/v1/orders": "lots"}'),
    ],
)
def test_a_setting_that_would_open_a_door_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(name, value)
    with pytest.raises((ValidationError, SettingsError)):
        Settings()


def test_as_it_ships_an_order_is_its_drivers_for_longer_than_it_is_driven():
    settings = Settings()

    assert (settings.step_seconds, settings.driver_lease_seconds, settings.past_timer_seconds) == (8.0, 10.0, 60.0)
    assert settings.payment_seconds == 6.0  # payment answers by then, and says so in the contract


UNSAFE = [
    {"ORDER_STEP_SECONDS": "10"},  # the lease would end with the last step still under way
    {"ORDER_STEP_SECONDS": "5"},  # payment would always be given up too early
    {"ORDER_DRIVER_LEASE_SECONDS": "8"},
    {"ORDER_PAST_TIMER_SECONDS": "8"},
    {"ORDER_PAYMENT_SECONDS": "0"},
]


def test_times_by_which_an_order_would_be_taken_over_while_it_is_driven_are_refused(monkeypatch: pytest.MonkeyPatch):
    for environment in UNSAFE:
        with monkeypatch.context() as changed:
            for name, value in environment.items():
                changed.setenv(name, value)
            with pytest.raises(ValidationError, match="ORDER_"):
                Settings()


def test_times_can_be_small_together(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"PAYMENT": "0.5", "STEP": "1", "DRIVER_LEASE": "1.5", "PAST_TIMER": "3"}.items():
        monkeypatch.setenv(f"ORDER_{name}_SECONDS", value)

    assert Settings().driver_lease_seconds == 1.5


def test_settings_never_change():
    with pytest.raises(ValidationError):
        Settings().app_port = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_the_shipped_catalog_has_the_contracts_sample():
    latte = load_shipped(None).products["latte"]
    assert "vanilla" in [variation.name for variation in latte.variations]
