"""Alembic's versions build the tables that the code knows."""

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import backoffice
from backoffice.tables import metadata
from chassis import migrations


def test_the_migrations_build_exactly_the_tables(migrated):
    engine = sa.create_engine(f"sqlite:///{migrated}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()

    assert differences == []


def test_the_migrations_can_be_taken_back(database):
    url = f"sqlite:///{database}"

    command.downgrade(migrations.config(url, backoffice, metadata), "base")

    engine = sa.create_engine(url)
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
