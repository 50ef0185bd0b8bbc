"""How pytest-xdist shares the tests out: all that stand on one stack of real sidecars are one worker's, and so is any
other file. (Its `--dist loadgroup` has no effect with pytest 9.2: it renames tests where pytest no longer looks.)"""

import re

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_ON_A_STACK = re.compile(r"tests/integration/.*\[(sqlite|postgresql)\b")


class _ByStack(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        found = _ON_A_STACK.match(nodeid)
        return found[1] if found else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _ByStack(config, log)
