"""How many examples a property is tried on: few in `make test`, ten times as many in `make chaos`."""

import os
from typing import Any

from hypothesis import HealthCheck, settings

_TIMES = int(os.environ.get("EXAMPLES", "1"))


def examples(count: int, **more: Any) -> settings:
    """Of a machine that may be busy, and of tests that have fixtures, no example is told from the next."""
    health = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
    return settings(max_examples=count * _TIMES, deadline=None, suppress_health_check=health, **more)
