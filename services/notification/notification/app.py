"""Assembles the service."""

from collections.abc import Mapping
from datetime import timedelta

from dapr.ext.workflow import WorkflowRuntime
from fastapi import FastAPI

import chassis.app
import notification
from chassis import retention
from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.figures import keep_figures
from chassis.flags.memory import Flags
from chassis.flags.snapshot import Snapshot
from chassis.health import Check, Health, usual_checks
from chassis.jobs import Jobs
from chassis.leases import Leases
from chassis.lifespan import Lifespan
from chassis.outbox import Outbox
from chassis.problems import Problem
from chassis.recurring import paused_by
from chassis.saga import Saga
from chassis.secrets import read_secrets
from chassis.sidecar import Sidecar
from chassis.takeover import Takeover
from chassis.tasks import Tasks
from chassis.workflow import Workflow
from notification import tables, telemetry
from notification.access import RULES
from notification.announcements import Announcements
from notification.api import (
    bulk,
    dead_letters,
    export_page,
    notifications,
    password_resets,
    person_data,
    receipts,
    recipients,
    routes,
    sagas,
    stream,
    templates,
    unsubscribe,
)
from notification.bulk.worker import Bulks
from notification.channels import Channels, bulk_rates, open_channels, secrets_needed
from notification.channels.email.channel import greets
from notification.clients import PersonHolders
from notification.domain import (
    ConcurrencyConflict,
    DeadLetterClosed,
    IdempotencyMismatch,
    NotReplayable,
    NotYours,
    OtherTenant,
    ResetGone,
    SagaNotFailed,
    UnknownBulk,
    UnknownDeadLetter,
    UnknownNotification,
    UnknownRecipient,
    UnknownSaga,
    UnknownTemplate,
)
from notification.incoming.intake import Intake
from notification.incoming.redelivery import Redelivery
from notification.incoming.routing_table import RouteTable
from notification.incoming.saga import WORKFLOW, TellRef, tell_in_turn
from notification.incoming.saga_records import takeover
from notification.incoming.saga_steps import Steps
from notification.password_reset import LINK, Resets
from notification.receipts.inbound import Receipts
from notification.receipts.signatures import ReceiptSignatures
from notification.receipts.status_polling import StatusPolling
from notification.recipients.unsubscribe_link import Unsubscribing
from notification.retention import EXPIRIES
from notification.sending.compose import Wording
from notification.sending.sender import Sender
from notification.services import Services
from notification.settings import Settings
from notification.subscriptions import subscribe
from notification.templates.catalog import Catalog
from notification.unit_of_work import Units

SERVICE = "notification-service"

# Bulk first: `/notifications/{notification_id}` would take its path.
RESOURCES = (
    bulk,
    notifications,
    stream,
    templates,
    recipients,
    person_data,
    unsubscribe,
    receipts,
    routes,
    sagas,
    password_resets,
    dead_letters,
    export_page,
)

_SECRETS = ("unsubscribe-key", "receipt-secrets")
_DRAIN_SECONDS = 5.0
_PATIENCE = 0.03  # seconds: nobody waits for our events

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
    DeadLetterClosed: Problem(status=409, error_type="dead-letter-closed", title="This dead letter waits no more"),
    SagaNotFailed: Problem(status=409, error_type="saga-not-failed", title="The saga has not failed"),
    ConcurrencyConflict: Problem(status=409, error_type="concurrency-conflict", title="Changed by somebody else"),
    IdempotencyMismatch: Problem(status=422, error_type="idempotency-mismatch", title="Key used for another body"),
    ResetGone: Problem(status=410, error_type="reset-gone", title="This link is gone"),
}


def create_app(
    settings: Settings,
    *,
    sidecar: Sidecar | None = None,
    channels: Channels | None = None,
    runtime: WorkflowRuntime | None = None,
) -> FastAPI:
    """The service. `runtime` is the workflow worker that `main` makes; without one nothing durable runs here."""
    sidecar = sidecar or Sidecar(port=settings.dapr_http_port, source=SERVICE, api_token=settings.dapr_api_token)
    made = _assemble(settings, sidecar, channels, runtime)
    app = chassis.app.create_app(
        title="Brewline notifications",
        settings=settings,
        sidecar=sidecar,
        rules=RULES,
        start=lambda lifespan: _start(lifespan, settings, made),
        health=made.health,
        refusals=REFUSALS,
        caches=(made.cache,),
        outbox=made.outbox,
    )
    app.state.services = made
    # First: routes are tried in their order, and most requests are events.
    subscribe(app, app_id=SERVICE, pubsub=settings.pubsub)
    for resource in RESOURCES:
        resource.router.add_to(app)
    made.jobs.mount(app)
    app.state.leaving.append(made.changes.end_readers)
    return app


def _assemble(
    settings: Settings, sidecar: Sidecar, channels: Channels | None, runtime: WorkflowRuntime | None
) -> Services:
    db = Database(settings.database_url)
    tasks = Tasks()
    leases = Leases(db, tables.leases)
    outbox = Outbox(
        db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub=settings.pubsub, patience=_PATIENCE
    )
    changes = Changes(db=db, table=tables.changes, leases=leases)
    flags = Flags()
    cache = Cache(sidecar=sidecar, store=settings.cache_store, changes=changes, name="notification")
    announcements = Announcements(outbox=outbox, changes=changes)
    catalog = Catalog(db, cache)
    unsubscribing = Unsubscribing(settings.public_url)
    resets = Resets(db=db, reset_url=settings.reset_url)
    opened = open_channels(settings, sidecar) if channels is None else None
    rates = bulk_rates(settings)
    sender = Sender(
        db=db,
        channels=opened.channels if opened else channels or {},
        wording=Wording(db=db, catalog=catalog, unsubscribing=unsubscribing, links={LINK: resets.link}),
        announcements=announcements,
        rates=rates,
        lease=timedelta(seconds=settings.lease_seconds),
        send_within=timedelta(seconds=settings.send_seconds),
    )
    taking_over = takeover(db, sidecar, past_timer=timedelta(seconds=settings.saga_past_timer_seconds))
    routed = RouteTable(db=db, cache=cache)
    intake = Intake(db=db, routes=routed, sender=sender, hand_over=taking_over.hand_over, tasks=tasks)
    receipts = Receipts(db=db, announce=announcements.add_rows, wake=announcements.wake)
    patience = timedelta(seconds=settings.look_up_after)
    polling = StatusPolling(db=db, receipts=receipts, providers=opened.sms if opened else {}, patience=patience)
    expiring = retention.job(db, (outbox.expiry, changes.expiry, *EXPIRIES))
    return Services(
        db=db,
        sidecar=sidecar,
        pubsub=settings.pubsub,
        opened=opened,
        unsubscribing=unsubscribing,
        signatures=ReceiptSignatures(),
        outbox=outbox,
        changes=changes,
        health=_health(settings, db, sidecar),
        flags=flags,
        snapshot=Snapshot(flags=flags, db=db, table=tables.settings_snapshot, changes=changes, sidecar=sidecar),
        cache=cache,
        person_holders=PersonHolders(sidecar),
        units=Units(db, announcements),
        catalog=catalog,
        sender=sender,
        resets=resets,
        receipts=receipts,
        bulks=Bulks(db=db, rates=rates),
        intake=intake,
        redelivery=Redelivery(app_id=SERVICE, db=db, sidecar=sidecar, intake=intake),
        jobs=Jobs(
            db=db,
            runs=tables.job_runs,
            paused=paused_by(flags),
            sidecar=sidecar,
            leases=leases,
            jobs=(taking_over.job("PendingSagas"), polling.job(), expiring),
        ),
        tasks=tasks,
        saga=_saga(Steps(db=db, sender=sender), taking_over, tasks),
        runtime=runtime,
    )


def _saga(steps: Steps, taking_over: Takeover[TellRef], tasks: Tasks) -> Saga[TellRef]:
    return Saga(
        name=WORKFLOW,
        story=tell_in_turn,
        reference=TellRef,
        performers=steps.performers(),
        flush=steps.flush,
        incident=steps.give_up,
        takeover=taking_over,
        tasks=tasks,
    )


async def _start(lifespan: Lifespan, settings: Settings, made: Services) -> None:
    await lifespan.database(made.db, notification, tables.metadata)
    await made.sender.take_back()
    await lifespan.start(made.sidecar)
    needs = (*_SECRETS, *secrets_needed(settings))
    secrets = await read_secrets(made.sidecar, store=settings.secret_store, name=SERVICE, needs=needs)
    made.unsubscribing.unlock(secrets["unsubscribe-key"])
    made.signatures.unlock(secrets["receipt-secrets"])
    if made.opened is not None:
        made.opened.unlock(secrets)
    await made.snapshot.load()
    lifespan.loop(made.outbox.run(), name="outbox-relay")
    lifespan.loop(made.changes.run(), name="changes")
    lifespan.loop(keep_figures(made.db, made.outbox.figures, telemetry.figures), name="figures")
    lifespan.loop(made.snapshot.run(), name="settings")
    lifespan.loop(made.bulks.run(), name="bulks")
    await lifespan.start(made.sender)
    await lifespan.workflow(made.runtime, Workflow(made.saga))
    lifespan.push_async_callback(made.tasks.drain, within=_DRAIN_SECONDS)
    await lifespan.start(made.jobs)


def _health(settings: Settings, db: Database, sidecar: Sidecar) -> Health:
    async def smtp_greets() -> None:
        await greets(settings.smtp_host, settings.smtp_port, tls=settings.smtp_tls, ca_file=settings.smtp_ca_file)

    # Without sidecar and SMTP nothing is lost: rows wait.
    usual = usual_checks(
        db=db, sidecar=sidecar, state_store=settings.cache_store, pubsub=settings.pubsub, without_sidecar=True
    )
    return Health({**usual, "smtp": Check(probe=smtp_greets, required=False)})
