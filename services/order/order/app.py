"""Assembles the order service."""

from datetime import timedelta

from dapr.ext.workflow import WorkflowRuntime
from fastapi import FastAPI

import order
from chassis import retention
from chassis.app import create_app as create_service
from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.figures import keep_figures
from chassis.flags.memory import Flags
from chassis.flags.snapshot import Snapshot
from chassis.health import Health, usual_checks
from chassis.jobs import Jobs
from chassis.leases import Leases
from chassis.lifespan import Lifespan
from chassis.outbox import Outbox
from chassis.problems import Problem
from chassis.recurring import paused_by
from chassis.saga import Saga
from chassis.sealing import Sealer
from chassis.secrets import read_secrets
from chassis.sidecar import Sidecar
from chassis.takeover import Takeover
from chassis.tasks import Tasks
from chassis.workflow import Workflow
from order import health_monitor, tables, telemetry
from order.access import RULES
from order.announcements import Announcements
from order.api import catalog, export_page, metrics, orders, person_data, products, sagas, stock, stream
from order.catalog import load_shipped
from order.catalogs import Catalogs
from order.clients import Payments
from order.domain import (
    ConcurrencyConflict,
    IllegalMove,
    NotYourOrder,
    OrderNotFound,
    OrderOfOtherTenant,
    OutOfStock,
    ProductExists,
    ProductNotFound,
    SagaNotFailed,
    SagaNotFound,
    StockOutOfRange,
)
from order.health_monitor import HealthMonitor
from order.hourly_metrics import MetricsCollector
from order.idempotency import IdempotencyInFlight, IdempotencyMismatch, IdempotencyRecords
from order.saga import WORKFLOW, OrderRef, fulfil_order
from order.saga_store import Stores
from order.services import Services
from order.settings import Settings
from order.steps import Steps
from order.store import StoreParts
from order.subscriptions import subscribe
from order.system import SystemStore

SERVICE = "order-service"

# The stream first: `/orders/{order_id}` would take its path.
RESOURCES = (catalog, products, stock, stream, orders, sagas, metrics, export_page, person_data)

REFUSALS: dict[type[Exception], Problem] = {
    OrderNotFound: Problem(status=404, error_type="order-not-found", title="No such order"),
    OrderOfOtherTenant: Problem(status=403, error_type="different-tenant", title="Order belongs to different tenant"),
    NotYourOrder: Problem(status=403, error_type="not-owner", title="Not your order"),
    OutOfStock: Problem(status=409, error_type="out-of-stock", title="Out of stock"),
    ProductNotFound: Problem(status=404, error_type="product-not-found", title="No such product"),
    ProductExists: Problem(status=409, error_type="product-exists", title="The product exists"),
    StockOutOfRange: Problem(status=409, error_type="stock-out-of-range", title="Out of range"),
    ConcurrencyConflict: Problem(status=409, error_type="concurrency-conflict", title="Changed by somebody else"),
    IllegalMove: Problem(status=409, error_type="illegal-move", title="The order can't move there"),
    SagaNotFound: Problem(status=404, error_type="saga-not-found", title="No such saga"),
    SagaNotFailed: Problem(status=409, error_type="saga-not-failed", title="The saga has not failed"),
    IdempotencyMismatch: Problem(status=422, error_type="idempotency-mismatch", title="Key used for another body"),
    IdempotencyInFlight: Problem(
        status=409,
        error_type="idempotency-in-flight",
        title="Still under way",
        headers={"Retry-After": "1"},
    ),
}


def create_app(
    settings: Settings, *, sidecar: Sidecar | None = None, runtime: WorkflowRuntime | None = None
) -> FastAPI:
    """The service. `runtime` is the workflow worker that `main` makes; without one nothing durable runs here."""
    sidecar = sidecar or Sidecar(port=settings.dapr_http_port, source=SERVICE, api_token=settings.dapr_api_token)
    services = _assemble(settings, sidecar, runtime)

    app = create_service(
        title="Brewline orders",
        settings=settings,
        sidecar=sidecar,
        rules=RULES,
        start=lambda lifespan: _start(lifespan, services),
        health=services.health,
        refusals=REFUSALS,
        caches=(services.cache,),
        outbox=services.outbox,
    )
    app.state.services = services
    for resource in RESOURCES:
        resource.router.add_to(app)
    subscribe(app, app_id=SERVICE, pubsub=settings.pubsub)
    services.jobs.mount(app)
    app.state.leaving.append(services.changes.end_readers)
    return app


def _assemble(settings: Settings, sidecar: Sidecar, runtime: WorkflowRuntime | None) -> Services:
    db = Database(settings.database_url)
    tasks = Tasks()
    leases = Leases(db, tables.leases)
    outbox = Outbox(db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub=settings.pubsub)
    changes = Changes(db=db, table=tables.changes, leases=leases)
    cache = Cache(sidecar=sidecar, store=settings.state_store, changes=changes, name="order")
    shipped = load_shipped(settings.catalog_file)
    flags = Flags()
    parts = StoreParts(
        db=db,
        announcements=Announcements(outbox=outbox, changes=changes),
        sealer=Sealer(),
        catalogs=Catalogs(db=db, cache=cache, shipped=shipped),
        driver_lease=timedelta(seconds=settings.driver_lease_seconds),
        past_timer=timedelta(seconds=settings.past_timer_seconds),
    )
    stores = Stores(parts)
    steps = Steps(stores=stores, payments=Payments(sidecar))
    takeover = Takeover(
        workflow=WORKFLOW,
        sidecar=sidecar,
        due=SystemStore(db).due,
        postpone=stores.postpone,
        lease=parts.driver_lease,
        past_timer=parts.past_timer,
    )
    saga = Saga(
        name=WORKFLOW,
        story=fulfil_order,
        reference=OrderRef,
        performers=steps.performers(),
        flush=steps.flush,
        incident=steps.give_up,
        takeover=takeover,
        tasks=tasks,
        step_seconds=settings.step_seconds,
    )
    health = Health(usual_checks(db=db, sidecar=sidecar, state_store=settings.state_store, pubsub=settings.pubsub))
    monitor = HealthMonitor(db=db, sidecar=sidecar, health=health, tasks=tasks)
    collector = MetricsCollector(db)
    jobs = Jobs(
        db=db,
        runs=tables.job_runs,
        paused=paused_by(flags),
        sidecar=sidecar,
        leases=leases,
        jobs=(
            takeover.job("PendingOrderProcessor"),
            *([monitor.job()] if runtime is not None else []),
            collector.job(),
            retention.job(db, (outbox.expiry, changes.expiry, health_monitor.EXPIRY)),
        ),
    )
    return Services(
        settings=settings,
        db=db,
        sealer=parts.sealer,
        sidecar=sidecar,
        tasks=tasks,
        outbox=outbox,
        changes=changes,
        health=health,
        monitor=monitor,
        collector=collector,
        cache=cache,
        flags=flags,
        snapshot=Snapshot(flags=flags, db=db, table=tables.settings_snapshot, changes=changes, sidecar=sidecar),
        jobs=jobs,
        shipped=shipped,
        catalogs=parts.catalogs,
        stores=stores,
        records=IdempotencyRecords(sidecar=sidecar, store=settings.state_store),
        saga=saga,
        runtime=runtime,
    )


async def _start(lifespan: Lifespan, services: Services) -> None:
    await lifespan.database(services.db, order, tables.metadata)
    await lifespan.start(services.sidecar)
    store = services.settings.secret_store
    secrets = await read_secrets(services.sidecar, store=store, name=SERVICE, needs=("seal-keys",))
    services.sealer.unlock(secrets["seal-keys"])
    await services.snapshot.load()
    lifespan.loop(services.outbox.run(), name="outbox-relay")
    lifespan.loop(services.changes.run(), name="changes")
    lifespan.loop(keep_figures(services.db, services.outbox.figures, telemetry.figures), name="figures")
    lifespan.loop(services.snapshot.run(), name="settings")
    await lifespan.workflow(services.runtime, Workflow(services.saga), Workflow(services.monitor.saga))
    # What is still open after an inline saga's life is taken over by its lease.
    lifespan.push_async_callback(services.tasks.drain, within=services.settings.step_seconds + 1)
    await lifespan.start(services.jobs)
