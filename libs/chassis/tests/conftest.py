"""A database in a temporary folder with the tables that mechanisms bring."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.db import Database
from chassis.events import event_processing_table
from chassis.job_runs import job_runs_table
from chassis.leases import leases_table
from chassis.outbox import outbox_table
from chassis.redaction import RedactingExporter

METADATA = sa.MetaData()
outbox_table(METADATA)
leases_table(METADATA)
job_runs_table(METADATA)
event_processing_table(METADATA)
sa.Table("notes", METADATA, sa.Column("text", sa.String, primary_key=True))


@pytest.fixture(scope="session")
def exported() -> InMemorySpanExporter:
    """Spans as they would leave the process: redacted."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(RedactingExporter(exporter)))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exported: InMemorySpanExporter) -> Callable[[], Sequence[ReadableSpan]]:
    exported.clear()
    return exported.get_finished_spans


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


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """Somebody else at the same PostgreSQL database."""
    made = sa.create_engine(sa.make_url(database_url).set(drivername="postgresql+psycopg"))
    yield made
    made.dispose()
