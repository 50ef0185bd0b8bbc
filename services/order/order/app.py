"""Assembles the order service."""

from dataclasses import dataclass

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
from order.api import OrderApi, routes
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
from order.orders import DRIVER_LEASE
from order.saga import WORKFLOW, OrderRef, fulfil_order
from order.settings import Settings
from order.steps import Steps
from order.store import HANDED_OVER, Stores
from order.system import SystemStore

SERVICE = "order-service"
_DRAIN_SECONDS = 9.0  # an inline saga lives 8 s; what is still open then is taken over by its lease

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


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that runs, made once and handed to whoever needs it."""

    db: Database
    sealer: Sealer
    sidecar: Sidecar
    tasks: Tasks
    outbox: Outbox
    jobs: Jobs
    saga: Saga[OrderRef]
    api: OrderApi
    runtime: WorkflowRuntime | None


def create_app(
    settings: Settings, *, sidecar: Sidecar | None = None, runtime: WorkflowRuntime | None = None
) -> FastAPI:
    """The service. `runtime` is the workflow worker that `main` makes; without one nothing durable runs here."""
    sidecar = sidecar or Sidecar(port=settings.dapr_http_port, source=SERVICE, api_token=settings.dapr_api_token)
    parts = _assemble(settings, sidecar, runtime)

    async def sidecar_alive() -> None:
        parts.sidecar.require()

    app = create_service(
        title="Brewline orders",
        settings=settings,
        sidecar=sidecar,
        rules=RULES,
        start=lambda lifespan: _start(lifespan, settings, parts),
        checks={
            "database": Check(probe=parts.db.ping, required=True),
            "sidecar": Check(probe=sidecar_alive, required=True),
        },
        refusals=REFUSALS,
    )
    app.include_router(routes(parts.api))
    parts.jobs.mount(app)
    return app


def _assemble(settings: Settings, sidecar: Sidecar, runtime: WorkflowRuntime | None) -> Parts:
    db = Database(settings.database_url)
    tasks = Tasks()
    leases = Leases(db, tables.leases)
    outbox = Outbox(db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub=settings.pubsub)
    catalog = load_catalog(settings.catalog_file)
    sealer = Sealer()
    stores = Stores(db=db, outbox=outbox, sealer=sealer, catalog=catalog)
    steps = Steps(stores=stores, payments=Payments(sidecar))
    takeover = Takeover(
        workflow=WORKFLOW,
        sidecar=sidecar,
        due=SystemStore(db).due,
        postpone=stores.postpone,
        lease=DRIVER_LEASE,
        past_timer=HANDED_OVER,
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
    )
    api = OrderApi(
        stores=stores,
        catalog=catalog,
        saga=saga,
        records=IdempotencyRecords(sidecar=sidecar, store=settings.state_store),
        sidecar=sidecar,
        tasks=tasks,
        wait_seconds=settings.wait_seconds,
    )
    jobs = Jobs(
        sidecar=sidecar,
        leases=leases,
        jobs=(takeover.job("PendingOrderProcessor"), retention.job(db, (outbox.expiry,))),
    )
    return Parts(
        db=db,
        sealer=sealer,
        sidecar=sidecar,
        tasks=tasks,
        outbox=outbox,
        jobs=jobs,
        saga=saga,
        api=api,
        runtime=runtime,
    )


async def _start(lifespan: Lifespan, settings: Settings, parts: Parts) -> None:
    await lifespan.database(parts.db, order, tables.metadata)
    await lifespan.start(parts.sidecar)
    secrets = await read_secrets(parts.sidecar, store=settings.secret_store, name=SERVICE, needs=("seal-keys",))
    parts.sealer.unlock(secrets["seal-keys"])
    lifespan.loop(parts.outbox.run(), name="outbox-relay")
    await lifespan.workflow(parts.runtime, parts.saga)
    lifespan.push_async_callback(parts.tasks.drain, within=_DRAIN_SECONDS)
    await lifespan.start(parts.jobs)
