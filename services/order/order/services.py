"""Everything that runs, made once (app.py) and handed to whoever needs it."""

from dataclasses import dataclass
from typing import cast

from dapr.ext.workflow import WorkflowRuntime
from fastapi import Request

from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.flags.memory import Flags
from chassis.flags.snapshot import Snapshot
from chassis.health import Health
from chassis.jobs import Jobs
from chassis.outbox import Outbox
from chassis.saga import Saga
from chassis.sealing import Sealer
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks
from order.catalog import Shipped
from order.catalogs import Catalogs
from order.health_monitor import HealthMonitor
from order.hourly_metrics import MetricsCollector
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
    changes: Changes
    health: Health
    cache: Cache
    monitor: HealthMonitor
    collector: MetricsCollector
    flags: Flags
    snapshot: Snapshot
    jobs: Jobs
    shipped: Shipped
    catalogs: Catalogs
    stores: Stores
    records: IdempotencyRecords
    saga: Saga[OrderRef]
    runtime: WorkflowRuntime | None


def services(request: Request) -> Services:
    return cast("Services", request.app.state.services)
