"""Assembles the service."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from dapr.ext.workflow import WorkflowRuntime
from fastapi import FastAPI

import chassis.app
import notification
from chassis import migrations, retention
from chassis.app import database_check
from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.events import subscribe
from chassis.health import Check
from chassis.jobs import Jobs
from chassis.leases import Leases
from chassis.outbox import Outbox
from chassis.problems import Problem
from chassis.saga import Saga
from chassis.secrets import read_secrets
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks
from notification import tables
from notification.access import RULES
from notification.announcements import Announcements
from notification.api import bulk as bulk_api
from notification.api import cache as cache_api
from notification.api import dead_letters as letters
from notification.api import notifications, recipients, stream
from notification.api import password_resets as reset_api
from notification.api import receipts as receipt_api
from notification.api import routes as event_api
from notification.api import templates as template_api
from notification.api import unsubscribe as unsubscribe_api
from notification.bulk.worker import Bulks
from notification.channels import Channels, Open, open_channels
from notification.channels.email.channel import greets
from notification.domain import (
    ConcurrencyConflict,
    IdempotencyMismatch,
    NotReplayable,
    NotYours,
    OtherTenant,
    ResetGone,
    UnknownBulk,
    UnknownDeadLetter,
    UnknownNotification,
    UnknownRecipient,
    UnknownSaga,
    UnknownTemplate,
)
from notification.incoming.dead_letters import keep_dead_letters
from notification.incoming.routing_table import RouteTable
from notification.incoming.saga import TellRef, tell_in_turn
from notification.incoming.saga_steps import WORKFLOW, Steps
from notification.incoming.subscriptions import Intake
from notification.password_reset import LINK, Resets
from notification.receipts.inbound import Receipts
from notification.receipts.signatures import Trust
from notification.receipts.status_polling import LookUps
from notification.recipients.unsubscribe_link import Unsubscribing
from notification.retention import EXPIRIES
from notification.sending.compose import Wording
from notification.sending.sender import Sender
from notification.settings import Settings
from notification.templates.catalog import Catalog
from notification.unit_of_work import Units

SERVICE = "notification-service"

_SECRETS = ("unsubscribe-key", "receipt-secrets", "africas-talking-key", "legacy-sms-key")
_DRAIN_SECONDS = 5.0

REFUSALS: Mapping[type[Exception], Problem] = {
    **{
        kind: Problem(status=404, error_type=f"{kind.noun}-not-found", title=f"{kind.noun.capitalize()} not found")
        for kind in (
            UnknownNotification,
            UnknownDeadLetter,
            UnknownTemplate,
            UnknownRecipient,
            UnknownSaga,
            UnknownBulk,
        )
    },
    OtherTenant: Problem(status=403, error_type="different-tenant", title="Belongs to different tenant"),
    NotYours: Problem(status=403, error_type="not-owner", title="Not yours"),
    NotReplayable: Problem(status=409, error_type="not-replayable", title="This dead letter can't be replayed"),
    ConcurrencyConflict: Problem(status=409, error_type="concurrency-conflict", title="Changed by somebody else"),
    IdempotencyMismatch: Problem(status=422, error_type="idempotency-mismatch", title="Key used for another body"),
    ResetGone: Problem(status=410, error_type="reset-gone", title="This link is gone"),
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that runs, made once and handed to whoever needs it."""

    db: Database
    sidecar: Sidecar
    opened: Open | None  # None where a test brings channels of its own
    unsubscribing: Unsubscribing
    trust: Trust
    outbox: Outbox
    changes: Changes
    cache: Cache
    units: Units
    catalog: Catalog
    sender: Sender
    resets: Resets
    receipts: Receipts
    bulks: Bulks
    intake: Intake
    jobs: Jobs
    tasks: Tasks
    saga: Saga[TellRef]
    runtime: WorkflowRuntime | None


def create_app(
    settings: Settings,
    *,
    sidecar: Sidecar | None = None,
    channels: Channels | None = None,
    runtime: WorkflowRuntime | None = None,
) -> FastAPI:
    """The service. `runtime` is the workflow worker that `main` makes; without one nothing durable runs here."""
    sidecar = sidecar or Sidecar(port=settings.dapr_http_port, source=SERVICE, api_token=settings.dapr_api_token)
    parts = _assemble(settings, sidecar, channels, runtime)
    app = chassis.app.create_app(
        title="Brewline notifications",
        settings=settings,
        sidecar=sidecar,
        rules=RULES,
        start=lambda lifespan: lifespan.enter_async_context(_running(settings, parts)),
        checks=_checks(settings, parts),
        refusals=REFUSALS,
    )
    units = parts.units
    # First: routes are tried in their order, and most requests are events.
    keep_dead_letters(app, "/events/dead", parts.db)
    subscribe(app, "/events/{topic}", parts.intake.take)
    app.include_router(bulk_api.routes(units=units, catalog=parts.catalog, bulks=parts.bulks))
    app.include_router(notifications.routes(units=units, catalog=parts.catalog, sender=parts.sender))
    app.include_router(stream.routes(changes=parts.changes))
    app.include_router(template_api.routes(units=units, catalog=parts.catalog))
    app.include_router(recipients.routes(units=units))
    app.include_router(unsubscribe_api.routes(units=units, unsubscribing=parts.unsubscribing))
    app.include_router(receipt_api.routes(receipts=parts.receipts, trust=parts.trust))
    app.include_router(event_api.routes(units=units, cache=parts.cache))
    app.include_router(cache_api.routes(cache=parts.cache))
    app.include_router(reset_api.routes(units=units, resets=parts.resets, sender=parts.sender))
    app.include_router(letters.routes(units=units, sidecar=sidecar, pubsub=settings.pubsub))
    parts.jobs.mount(app)
    app.state.leaving.append(parts.changes.end_readers)
    return app


def _assemble(
    settings: Settings, sidecar: Sidecar, channels: Channels | None, runtime: WorkflowRuntime | None
) -> Parts:
    db = Database(settings.database_url)
    tasks = Tasks()
    leases = Leases(db, tables.leases)
    outbox = Outbox(db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub=settings.pubsub)
    changes = Changes(db=db, table=tables.changes, leases=leases)
    cache = Cache(sidecar=sidecar, store=settings.cache_store, changes=changes, name="notification")
    announcements = Announcements(outbox=outbox, changes=changes)
    catalog = Catalog(db, cache)
    unsubscribing = Unsubscribing(settings.public_url)
    resets = Resets(db=db, reset_url=settings.reset_url)
    opened = open_channels(settings, sidecar) if channels is None else None
    sender = Sender(
        db=db,
        channels=opened.channels if opened else channels or {},
        wording=Wording(db=db, catalog=catalog, unsubscribing=unsubscribing, links={LINK: resets.link}),
        announcements=announcements,
        rates=settings.bulk_rates,
    )
    steps = Steps(db=db, sidecar=sidecar, sender=sender)
    receipts = Receipts(db=db, told=announcements.add_rows, wake=announcements.wake)
    patience = timedelta(seconds=settings.look_up_after)
    lookups = LookUps(db=db, receipts=receipts, providers=opened.sms if opened else {}, patience=patience)
    expiring = retention.job(db, (outbox.expiry, changes.expiry, *EXPIRIES))
    return Parts(
        db=db,
        sidecar=sidecar,
        opened=opened,
        unsubscribing=unsubscribing,
        trust=Trust(),
        outbox=outbox,
        changes=changes,
        cache=cache,
        units=Units(db, announcements),
        catalog=catalog,
        sender=sender,
        resets=resets,
        receipts=receipts,
        bulks=Bulks(db=db, rates=settings.bulk_rates),
        intake=Intake(db=db, routes=RouteTable(db=db, cache=cache), sender=sender, steps=steps, tasks=tasks),
        jobs=Jobs(sidecar=sidecar, leases=leases, jobs=(steps.job(), lookups.job(), expiring)),
        tasks=tasks,
        saga=_saga(steps, tasks),
        runtime=runtime,
    )


def _saga(steps: Steps, tasks: Tasks) -> Saga[TellRef]:
    return Saga(
        name=WORKFLOW,
        story=tell_in_turn,
        reference=TellRef,
        performers=steps.performers(),
        flush=steps.flush,
        takeover=steps,
        tasks=tasks,
    )


@asynccontextmanager
async def _running(settings: Settings, parts: Parts) -> AsyncGenerator[None]:
    await parts.db.start()  # first of all: its lock tells two processes on one file apart
    await asyncio.to_thread(migrations.upgrade, settings.database_url, notification, tables.metadata)
    await parts.sender.take_back()
    await parts.sidecar.start()
    secrets = await read_secrets(parts.sidecar, store=settings.secret_store, name=SERVICE, needs=_SECRETS)
    parts.unsubscribing.unlock(secrets["unsubscribe-key"])
    parts.trust.unlock(secrets["receipt-secrets"])
    if parts.opened is not None:
        parts.opened.unlock(secrets)
    loops = [
        asyncio.create_task(loop, name=name)
        for name, loop in (
            ("outbox-relay", parts.outbox.run()),
            ("changes", parts.changes.run()),
            ("bulks", parts.bulks.run()),
        )
    ]
    parts.sender.start()
    if parts.runtime is not None:
        parts.saga.register(parts.runtime, asyncio.get_running_loop())
        await asyncio.to_thread(parts.runtime.start)
    await parts.jobs.start()
    try:
        yield
    finally:
        await parts.jobs.stop()
        await parts.tasks.drain(within=_DRAIN_SECONDS)
        if parts.runtime is not None:
            await asyncio.to_thread(parts.runtime.shutdown)
        await parts.sender.stop()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await parts.sidecar.stop()
        await parts.db.stop()


def _checks(settings: Settings, parts: Parts) -> dict[str, Check]:
    async def sidecar_alive() -> None:
        parts.sidecar.require()

    async def smtp_greets() -> None:
        await greets(settings.smtp_host, settings.smtp_port, tls=settings.smtp_tls, ca_file=settings.smtp_ca_file)

    return {
        "database": database_check(parts.db),
        # Without them nothing is lost: rows wait.
        "sidecar": Check(probe=sidecar_alive, required=False),
        "smtp": Check(probe=smtp_greets, required=False),
    }
