"""Everything that runs, made once (app.py) and handed to whoever needs it."""

from dataclasses import dataclass
from typing import cast

from dapr.ext.workflow import WorkflowRuntime
from fastapi import Request

from chassis.db import Database
from chassis.jobs import Jobs
from chassis.outbox import Outbox
from chassis.saga import Saga
from chassis.sealing import Sealer
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks
from order.catalog import Catalog
from order.idempotency import IdempotencyRecords
from order.saga import OrderRef
from order.saga_store import Stores
from order.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Services:
    """`runtime` is None where nothing durable runs."""

    settings: Settings
    db: Database
    sealer: Sealer
    sidecar: Sidecar
    tasks: Tasks
    outbox: Outbox
    jobs: Jobs
    catalog: Catalog
    stores: Stores
    records: IdempotencyRecords
    saga: Saga[OrderRef]
    runtime: WorkflowRuntime | None


def services(request: Request) -> Services:
    return cast("Services", request.app.state.services)
