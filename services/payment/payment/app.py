"""Assembles the payment service."""

from collections.abc import Mapping
from datetime import timedelta

from fastapi import FastAPI

import payment
from chassis import retention
from chassis.app import create_app as create_service
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.figures import keep_figures
from chassis.flags.memory import Flags
from chassis.flags.snapshot import Snapshot
from chassis.health import Health, usual_checks
from chassis.jobs import Job, Jobs
from chassis.leases import Leases
from chassis.lifespan import Lifespan
from chassis.outbox import Outbox
from chassis.problems import Problem
from chassis.recurring import paused_by
from chassis.sealing import Sealer
from chassis.secrets import read_secrets
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks
from payment import tables, telemetry
from payment.access import RULES
from payment.api import export_page, invoked, payments, settlements
from payment.api import refunds as refund_api
from payment.api import webhooks as webhook_api
from payment.charges import Charges
from payment.domain import (
    Absent,
    AmountDoesNotFit,
    Charge,
    KeyInFlight,
    KeyMismatch,
    NotOverdue,
    Outcome,
    PaymentNotFound,
    PaymentOfOtherTenant,
    Refund,
    RefundExceedsCaptured,
    RefundNotFound,
)
from payment.driver import Driver
from payment.providers import Provider, providers
from payment.refunds import Refunds
from payment.routing import Routes
from payment.services import Services
from payment.settings import Settings
from payment.subscriptions import subscribe
from payment.webhooks import Webhooks

SERVICE = "payment-service"
RESOURCES = (invoked, export_page, payments, refund_api, webhook_api, settlements)
_DRAIN_SECONDS = 8.0
_PATIENCE = 0.03  # seconds: nobody waits for our events
_SECRETS = ("seal-keys", "provider-webhook-secrets", "payment-b-key")

REFUSALS: dict[type[Exception], Problem] = {
    PaymentNotFound: Problem(status=404, error_type="payment-not-found", title="No such payment"),
    PaymentOfOtherTenant: Problem(
        status=403, error_type="different-tenant", title="Payment belongs to different tenant"
    ),
    RefundNotFound: Problem(status=404, error_type="refund-not-found", title="No such refund"),
    NotOverdue: Problem(status=409, error_type="not-overdue", title="Not a person's to settle"),
    KeyInFlight: Problem(
        status=409, error_type="idempotency-in-flight", title="Still under way", headers={"Retry-After": "1"}
    ),
    KeyMismatch: Problem(status=422, error_type="idempotency-mismatch", title="Key used for something else"),
    RefundExceedsCaptured: Problem(status=409, error_type="refund-exceeds-captured", title="Refund exceeds captured"),
    AmountDoesNotFit: Problem(status=422, error_type="invalid-request", title="The request is not valid"),
}


def create_app(
    settings: Settings, *, sidecar: Sidecar | None = None, by_name: Mapping[str, Provider] | None = None
) -> FastAPI:
    sidecar = sidecar or Sidecar(port=settings.dapr_http_port, source=SERVICE, api_token=settings.dapr_api_token)
    made = assemble(settings, sidecar, by_name)

    app = create_service(
        title="Brewline payments",
        settings=settings,
        sidecar=sidecar,
        rules=RULES,
        start=lambda lifespan: _start(lifespan, settings, made),
        health=made.health,
        refusals=REFUSALS,
        outbox=made.outbox,
    )
    app.state.services = made
    for resource in RESOURCES:
        resource.router.add_to(app)
    subscribe(app, app_id=SERVICE, pubsub=settings.pubsub)
    made.jobs.mount(app)
    app.state.leaving.append(made.changes.end_readers)
    return app


def assemble(settings: Settings, sidecar: Sidecar, by_name: Mapping[str, Provider] | None = None) -> Services:
    """Everything, connected to nothing yet. `by_name` are the providers, by the name that a row keeps."""
    db = Database(settings.database_url)
    tasks = Tasks()
    secrets: dict[str, str] = {}
    by_name = by_name or providers(sidecar, secrets)
    leases = Leases(db, tables.leases)
    outbox = Outbox(
        db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub=settings.pubsub, patience=_PATIENCE
    )
    changes = Changes(db=db, table=tables.changes, leases=leases)
    flags = Flags()
    sealer = Sealer()
    claim = timedelta(seconds=settings.claim_seconds)
    charges = Charges(db, sealer, outbox, claim=claim)
    refunds = Refunds(db, outbox, charges.parse, claim=claim)
    charge_driver = _charge_driver(settings, charges, by_name, tasks)
    refund_driver = _refund_driver(settings, charges, refunds, by_name, tasks)
    webhooks = Webhooks(charges=charges, refunds=refunds)

    async def reconcile() -> None:
        await charge_driver.sweep()
        await refund_driver.sweep()

    job = Job(name="reconcile-payments", every=timedelta(seconds=10), work=reconcile, at_start=(timedelta(0),))
    jobs = Jobs(
        db=db,
        runs=tables.job_runs,
        paused=paused_by(flags),
        sidecar=sidecar,
        leases=leases,
        jobs=(job, retention.job(db, (outbox.expiry, changes.expiry, webhooks.expiry))),
    )
    return Services(
        db=db,
        sealer=sealer,
        sidecar=sidecar,
        outbox=outbox,
        changes=changes,
        health=Health(
            usual_checks(db=db, sidecar=sidecar, state_store=settings.rate_limit_store, pubsub=settings.pubsub)
        ),
        flags=flags,
        snapshot=Snapshot(flags=flags, db=db, table=tables.settings_snapshot, changes=changes, sidecar=sidecar),
        tasks=tasks,
        jobs=jobs,
        charges=charges,
        refunds=refunds,
        routes=Routes(settings.routes, providers=by_name.keys(), flags=flags),
        charge_driver=charge_driver,
        refund_driver=refund_driver,
        webhooks=webhooks,
        by_name=by_name,
        secrets=secrets,
    )


def _charge_driver(
    settings: Settings, charges: Charges, by_name: Mapping[str, Provider], tasks: Tasks
) -> Driver[Charge]:
    return Driver(
        kind="charge",
        attempts=charges.attempts,
        post=lambda charge: by_name[charge.provider].charge(charge),
        look_up=lambda charge: by_name[charge.provider].look_up_charge(charge),
        settle=charges.settle,
        turn_to_next=charges.turn_to_next,
        tasks=tasks,
        answer_seconds=settings.answer_seconds,
        call=timedelta(seconds=settings.call_seconds),
    )


def _refund_driver(
    settings: Settings, charges: Charges, refunds: Refunds, by_name: Mapping[str, Provider], tasks: Tasks
) -> Driver[Refund]:
    async def post(refund: Refund) -> Outcome:
        charge = await charges.attempts.get(refund.payment_id)
        return await by_name[charge.provider].refund(refund, charge)

    async def look_up(refund: Refund) -> Outcome | Absent:
        charge = await charges.attempts.get(refund.payment_id)
        return await by_name[charge.provider].look_up_refund(refund)

    async def stay(_refund: Refund, _why: str) -> None:
        """Money goes back where it came from."""

    return Driver(
        kind="refund",
        attempts=refunds.attempts,
        post=post,
        look_up=look_up,
        settle=refunds.settle,
        turn_to_next=stay,
        tasks=tasks,
        answer_seconds=settings.answer_seconds,
        call=timedelta(seconds=settings.call_seconds),
    )


async def _start(lifespan: Lifespan, settings: Settings, made: Services) -> None:
    await lifespan.database(made.db, payment, tables.metadata)
    if made.db.exclusive:
        await made.charges.attempts.release_claims()
        await made.refunds.attempts.release_claims()
    await lifespan.start(made.sidecar)
    secrets = await read_secrets(made.sidecar, store=settings.secret_store, name=SERVICE, needs=_SECRETS)
    made.sealer.unlock(secrets["seal-keys"])
    made.webhooks.unlock(secrets["provider-webhook-secrets"])
    made.secrets.update(secrets)
    await made.snapshot.load()
    lifespan.loop(made.outbox.run(), name="outbox-relay")
    lifespan.loop(made.changes.run(), name="changes")
    lifespan.loop(keep_figures(made.db, made.outbox.figures, telemetry.figures), name="figures")
    lifespan.loop(made.snapshot.run(), name="settings")
    lifespan.push_async_callback(made.tasks.drain, within=_DRAIN_SECONDS)
    for driver in (made.charge_driver, made.refund_driver):
        lifespan.push_async_callback(driver.stop)
    await lifespan.start(made.jobs)
