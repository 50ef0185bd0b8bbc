"""What all tests share: where their files go, the one PostgreSQL, and how pytest-xdist shares them out."""

import os
import re
from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from stack import local, postgres

# The data of the stacks' Redis and SQLite too: it is thrown away, and they sync what they write.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(local.scratch()))

_ON_A_STACK = re.compile(r"tests/integration/.*\[(sqlite|postgresql)\b")


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


class _ByStack(LoadScopeScheduling):
    """All tests on one stack of real sidecars are one worker's, and so is any other file. (`--dist loadgroup` has no
    effect with pytest 9.2: it renames tests where pytest no longer looks.)"""

    def _split_scope(self, nodeid: str) -> str:
        found = _ON_A_STACK.match(nodeid)
        return found[1] if found else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # what is first in the list is first
    return _ByStack(config, log)
