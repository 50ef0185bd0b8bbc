"""A database in a temporary folder with the tables that mechanisms bring."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from chassis.db import Database
from chassis.events import event_processing_table
from chassis.leases import leases_table
from chassis.outbox import outbox_table

METADATA = sa.MetaData()
outbox_table(METADATA)
leases_table(METADATA)
event_processing_table(METADATA)
sa.Table("notes", METADATA, sa.Column("text", sa.String, primary_key=True))


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """No log lines: unconfigured, they are rendered for people, which takes longer than the tests."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def metadata() -> sa.MetaData:
    return METADATA


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.start()
    await database.write(METADATA.create_all)
    yield database
    await database.stop()
