"""What all tests share: where their files go, the one PostgreSQL, and how pytest-xdist shares them out."""

import gc
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from stack import local, postgres
from stack.issuer import Issuer

# The data of the stacks' Redis and SQLite too: it is thrown away, and they sync what they write.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(local.scratch()))

_ON_A_STACK = re.compile(r"tests/integration/.*\[(sqlite|postgresql)\b")

# Rendered for people, as structlog does when nobody has set it up, a line takes longer than many a test.
structlog.configure(
    [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=repr),
    ]
)


class _Compiled(dict[Any, Any]):
    """SQL that was compiled once in this process. SQLAlchemy keeps it by engine, and each test has engines of its own;
    what one SQLite's dialect has compiled is what another's would."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get((key[0].name, *key[1:]), default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__((key[0].name, *key[1:]), value)


_COMPILED = _Compiled()


@sa.event.listens_for(sa.Engine, "engine_connect")
def _compile_once(conn: sa.Connection) -> None:
    conn.execution_options(compiled_cache=_COMPILED)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Whatever a test looks at logs by, the next one has them as above."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """The records that are logged meanwhile."""
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as records:
        yield records


Points = Callable[[str], list[Any]]


@pytest.fixture(scope="session")
def points() -> Points:
    """The data points of a metric, by its name. A process has but one provider, and keeps it."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))

    def look(name: str) -> list[Any]:
        data = reader.get_metrics_data()
        scopes = [scope for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics]
        found = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
        return [point for metric in found for point in metric.data.data_points]

    return look


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """Whose tokens the services of this run believe."""
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    """A server of real transactions; whoever asks for it makes a database of their own."""
    with postgres.running() as server:
        yield server


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration/" in item.nodeid or "postgres_server" in getattr(item, "fixturenames", ()):
            item.add_marker("integration")
    # What takes longest begins first.
    items.sort(key=lambda item: not item.nodeid.startswith("tests/integration/"))


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: they need not be looked through each time for what is no longer needed."""
    gc.freeze()


class _ByStack(LoadScopeScheduling):
    """All tests on one stack of real sidecars are one worker's, and so is any other file. (`--dist loadgroup` has no
    effect with pytest 9.2: it renames tests where pytest no longer looks.)"""

    def _split_scope(self, nodeid: str) -> str:
        found = _ON_A_STACK.match(nodeid)
        return found[1] if found else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # what is first in the list is first
    return _ByStack(config, log)
