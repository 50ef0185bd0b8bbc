"""Everything that runs, made once (app.py) and handed to whoever needs it."""

from dataclasses import dataclass
from typing import cast

from dapr.ext.workflow import WorkflowRuntime
from fastapi import Request

from backoffice.exports.expiry import Expiry
from backoffice.exports.link import Links
from backoffice.exports.workflow import ExportJobs
from backoffice.files.keeping import Keeping
from backoffice.settings import Settings
from backoffice.settings_store import SettingsStore
from backoffice.sign_in.sign_in import SignIn
from backoffice.storage import Storage
from backoffice.traces import Traces
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.flags.memory import Flags
from chassis.health import Health
from chassis.jobs import Jobs
from chassis.outbox import Outbox
from chassis.sealing import Sealer
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks


@dataclass(frozen=True, kw_only=True)
class Services:
    """`secrets` is filled at start. `runtime` is None where nothing durable runs."""

    settings: Settings
    db: Database
    sidecar: Sidecar
    tasks: Tasks
    outbox: Outbox
    changes: Changes
    health: Health
    flags: Flags
    stored_settings: SettingsStore
    jobs: Jobs
    secrets: dict[str, str]
    storage: Storage
    keeping: Keeping
    links: Links
    sealer: Sealer
    sign_in: SignIn
    exports: ExportJobs
    expiry: Expiry
    traces: Traces
    runtime: WorkflowRuntime | None


def services(request: Request) -> Services:
    return cast("Services", request.app.state.services)
