from collections.abc import Iterator

import pytest
from elsewhere import Elsewhere

from stack.processes import scratch_home


@pytest.fixture(scope="package")
def elsewhere() -> Iterator[Elsewhere]:
    with scratch_home("examples") as home:
        place = Elsewhere(home)
        place.typed(".venv/bin/brewline up")
        yield place
        place.typed(".venv/bin/brewline down")
