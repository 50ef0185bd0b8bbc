"""Assembles the payment service."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from fastapi import FastAPI

import payment
from chassis import migrations
from chassis.app import create_app as create_service
from chassis.db import Database
from chassis.health import Check
from chassis.jobs import Job, Jobs
from chassis.leases import Leases
from chassis.problems import Problem
from chassis.sealing import Sealer
from chassis.secrets import read_secrets
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks
from payment import tables
from payment.access import RULES
from payment.api import PaymentApi, routes
from payment.charges import Charges
from payment.domain import (
    Absent,
    AmountDoesNotFit,
    Charge,
    KeyMismatch,
    Outcome,
    PaymentNotFound,
    Refund,
    RefundExceedsCaptured,
)
from payment.driver import Driver
from payment.providers import Provider, providers
from payment.refunds import Refunds
from payment.settings import Settings

SERVICE = "payment-service"
_DRAIN_SECONDS = 8.0

REFUSALS: dict[type[Exception], Problem] = {
    PaymentNotFound: Problem(status=404, error_type="payment-not-found", title="No such payment"),
    KeyMismatch: Problem(status=422, error_type="idempotency-mismatch", title="Key used for something else"),
    RefundExceedsCaptured: Problem(status=409, error_type="refund-exceeds-captured", title="Refund exceeds captured"),
    AmountDoesNotFit: Problem(status=422, error_type="invalid-request", title="The request is not valid"),
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    db: Database
    sealer: Sealer
    sidecar: Sidecar
    tasks: Tasks
    jobs: Jobs
    api: PaymentApi


def create_app(
    settings: Settings, *, sidecar: Sidecar | None = None, by_name: Mapping[str, Provider] | None = None
) -> FastAPI:
    sidecar = sidecar or Sidecar(port=settings.dapr_http_port, source=SERVICE, api_token=settings.dapr_api_token)
    parts = assemble(settings, sidecar, by_name or providers(sidecar))

    async def sidecar_alive() -> None:
        parts.sidecar.require()

    app = create_service(
        title="Brewline payments",
        settings=settings,
        sidecar=sidecar,
        rules=RULES,
        lifespan=lambda: _running(settings, parts),
        checks={
            "database": Check(probe=parts.db.ping, required=True),
            "sidecar": Check(probe=sidecar_alive, required=True),
        },
        refusals=REFUSALS,
    )
    app.include_router(routes(parts.api))
    parts.jobs.mount(app)
    return app


def assemble(settings: Settings, sidecar: Sidecar, by_name: Mapping[str, Provider]) -> Parts:
    """Everything, connected to nothing yet. `by_name` are the providers, by the name that a row keeps."""
    db = Database(settings.database_url)
    tasks = Tasks()
    sealer = Sealer()
    charges = Charges(db, sealer)
    refunds = Refunds(db)
    api = PaymentApi(
        charges=charges,
        refunds=refunds,
        charge_driver=_charge_driver(settings, charges, by_name, tasks),
        refund_driver=_refund_driver(settings, charges, refunds, by_name, tasks),
    )

    async def reconcile() -> None:
        await api.charge_driver.sweep()
        await api.refund_driver.sweep()

    job = Job(name="reconcile-payments", every=timedelta(seconds=10), work=reconcile, at_start=(timedelta(0),))
    jobs = Jobs(sidecar=sidecar, leases=Leases(db, tables.leases), jobs=(job,))
    return Parts(db=db, sealer=sealer, sidecar=sidecar, tasks=tasks, jobs=jobs, api=api)


def _charge_driver(
    settings: Settings, charges: Charges, by_name: Mapping[str, Provider], tasks: Tasks
) -> Driver[Charge]:
    return Driver(
        kind="charge",
        attempts=charges.attempts,
        post=lambda charge: by_name[charge.provider].charge(charge),
        look_up=lambda charge: by_name[charge.provider].look_up_charge(charge),
        settle=charges.settle,
        tasks=tasks,
        answer_seconds=settings.answer_seconds,
    )


def _refund_driver(
    settings: Settings, charges: Charges, refunds: Refunds, by_name: Mapping[str, Provider], tasks: Tasks
) -> Driver[Refund]:
    async def post(refund: Refund) -> Outcome:
        charge = await charges.get(refund.tenant, refund.payment_id)
        return await by_name[charge.provider].refund(refund, charge)

    async def look_up(refund: Refund) -> Outcome | Absent:
        charge = await charges.get(refund.tenant, refund.payment_id)
        return await by_name[charge.provider].look_up_refund(refund)

    return Driver(
        kind="refund",
        attempts=refunds.attempts,
        post=post,
        look_up=look_up,
        settle=refunds.settle,
        tasks=tasks,
        answer_seconds=settings.answer_seconds,
    )


@asynccontextmanager
async def _running(settings: Settings, parts: Parts) -> AsyncGenerator[None]:
    await parts.db.start()  # first of all: its lock tells two processes on one file apart
    await asyncio.to_thread(migrations.upgrade, settings.database_url, payment, tables.metadata)
    if parts.db.exclusive:
        await parts.api.charges.attempts.release_claims()
        await parts.api.refunds.attempts.release_claims()
    await parts.sidecar.start()
    secrets = await read_secrets(parts.sidecar, store=settings.secret_store, name=SERVICE)
    parts.sealer.unlock(secrets["seal-keys"])
    parts.jobs.start()
    try:
        yield
    finally:
        await parts.jobs.stop()
        await parts.api.charge_driver.stop()
        await parts.api.refund_driver.stop()
        await parts.tasks.drain(within=_DRAIN_SECONDS)
        await parts.sidecar.stop()
        await parts.db.stop()
