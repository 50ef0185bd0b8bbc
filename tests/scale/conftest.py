"""The production components for real on one machine: Kafka, PostgreSQL, and two replicas of every service."""

import os
from collections.abc import Iterator

import production
import pytest

from stack import kafka
from stack.postgres import Postgres, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = production.missing()
    for item in items:
        if "tests/scale/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(600))
            if lacking:
                reason = f"needs {', '.join(lacking)}: make test-scale gets it"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def _daprd() -> Iterator[None]:
    """The one that loads Kafka and PostgreSQL, unless the machine has one of its own, which loads everything."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{production.daprd().parent}")
        yield


@pytest.fixture(scope="session")
def database() -> Iterator[Postgres]:
    # Ten services and their sidecars, as docs/operations.md counts connections.
    with running(settings={"max_connections": "400"}) as server:
        yield server


@pytest.fixture(scope="session")
def broker(_daprd: None) -> Iterator[kafka.Kafka]:
    with kafka.running(production.TOOLS) as started:
        yield started
