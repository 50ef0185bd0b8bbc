"""Assembles the order service."""

from datetime import timedelta

from dapr.ext.workflow import WorkflowRuntime
from fastapi import FastAPI

import order
from chassis import retention
from chassis.app import create_app as create_service
from chassis.db import Database
from chassis.health import Check
from chassis.jobs import Jobs
from chassis.leases import Leases
from chassis.lifespan import Lifespan
from chassis.outbox import Outbox
from chassis.problems import Problem
from chassis.saga import Saga
from chassis.sealing import Sealer
from chassis.secrets import read_secrets
from chassis.sidecar import Sidecar
from chassis.takeover import Takeover
from chassis.tasks import Tasks
from order import tables
from order.access import RULES
from order.api import catalog, orders
from order.catalog import load_catalog
from order.clients import Payments
from order.domain import (
    IllegalMove,
    NotYourOrder,
    OrderNotFound,
    OrderOfOtherTenant,
    OutOfStock,
)
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

REFUSALS: dict[type[Exception], Problem] = {
    OrderNotFound: Problem(status=404, error_type="order-not-found", title="No such order"),
    OrderOfOtherTenant: Problem(status=403, error_type="different-tenant", title="Order belongs to different tenant"),
    NotYourOrder: Problem(status=403, error_type="not-owner", title="Not your order"),
    OutOfStock: Problem(status=409, error_type="out-of-stock", title="Out of stock"),
    IllegalMove: Problem(status=409, error_type="illegal-move", title="The order can't move there"),
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

    async def sidecar_alive() -> None:
        sidecar.require()

    app = create_service(
        title="Brewline orders",
        settings=settings,
        sidecar=sidecar,
        rules=RULES,
        start=lambda lifespan: _start(lifespan, services),
        checks={
            "database": Check(probe=services.db.ping, required=True),
            "sidecar": Check(probe=sidecar_alive, required=True),
        },
        refusals=REFUSALS,
    )
    app.state.services = services
    for resource in (catalog, orders):
        resource.router.add_to(app)
    subscribe(app, app_id=SERVICE, pubsub=settings.pubsub)
    services.jobs.mount(app)
    return app


def _assemble(settings: Settings, sidecar: Sidecar, runtime: WorkflowRuntime | None) -> Services:
    db = Database(settings.database_url)
    tasks = Tasks()
    leases = Leases(db, tables.leases)
    outbox = Outbox(db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub=settings.pubsub)
    parts = StoreParts(
        db=db,
        outbox=outbox,
        sealer=Sealer(),
        catalog=load_catalog(settings.catalog_file),
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
        takeover=takeover,
        tasks=tasks,
        skipped_by_compensation=("confirm",),
        step_seconds=settings.step_seconds,
    )
    jobs = Jobs(
        sidecar=sidecar,
        leases=leases,
        jobs=(takeover.job("PendingOrderProcessor"), retention.job(db, (outbox.expiry,))),
    )
    return Services(
        settings=settings,
        db=db,
        sealer=parts.sealer,
        sidecar=sidecar,
        tasks=tasks,
        outbox=outbox,
        jobs=jobs,
        catalog=parts.catalog,
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
    lifespan.loop(services.outbox.run(), name="outbox-relay")
    await lifespan.workflow(services.runtime, services.saga)
    # What is still open after an inline saga's life is taken over by its lease.
    lifespan.push_async_callback(services.tasks.drain, within=services.settings.step_seconds + 1)
    await lifespan.start(services.jobs)
