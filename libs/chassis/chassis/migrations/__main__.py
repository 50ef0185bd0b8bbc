"""`python -m chassis.migrations NAME`: the Job of a deployment, which migrates that service's database and ends; with
`--wait` what its pods do before they serve."""

import argparse
import importlib
import os
import sys
import time
from types import ModuleType

from sqlalchemy.exc import OperationalError

from chassis import migrations

_EVERY = 1.0
_PATIENCE = 60.0  # with a database that does not answer yet; then the Job says why, and is started again


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chassis.migrations", description=__doc__)
    parser.add_argument("service", help="a service's package; its database is where `<SERVICE>_DATABASE_URL` says")
    parser.add_argument("--wait", action="store_true", help="migrate nothing: return when it is done")
    asked = parser.parse_args()
    package = importlib.import_module(asked.service)
    url = os.environ[f"{asked.service.upper()}_DATABASE_URL"]
    if asked.wait:
        while not migrations.current(url, package):
            time.sleep(_EVERY)
    else:
        _upgrade(url, package)
    return 0


def _upgrade(url: str, package: ModuleType) -> None:
    metadata = importlib.import_module(f"{package.__name__}.tables").metadata
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return migrations.upgrade(url, package, metadata)
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_EVERY)


if __name__ == "__main__":
    sys.exit(main())
