"""Everything that runs, made once (app.py) and handed to whoever needs it."""

from dataclasses import dataclass
from typing import cast

from fastapi import Request

from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.flags.snapshot import Snapshot
from chassis.jobs import Jobs
from chassis.outbox import Outbox
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks
from datasource.runs import Runs
from datasource.settings import Settings
from datasource.sync import Syncs


@dataclass(frozen=True, kw_only=True)
class Services:
    """`secrets` is empty until the service starts."""

    settings: Settings
    db: Database
    sidecar: Sidecar
    tasks: Tasks
    outbox: Outbox
    changes: Changes
    snapshot: Snapshot
    jobs: Jobs
    runs: Runs
    syncs: Syncs
    secrets: dict[str, str]


def services(request: Request) -> Services:
    return cast("Services", request.app.state.services)
