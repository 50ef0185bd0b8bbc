"""Assembles the data source."""

from datetime import timedelta

from fastapi import FastAPI

import datasource
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
from chassis.retention import Expiry
from chassis.secrets import read_secrets
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks
from datasource import tables
from datasource.access import RULES
from datasource.access_token import Token
from datasource.api import person_data, quarantine, records, sync
from datasource.domain import NoSource, NotFound, OfOtherTenant, StillInvalid, SyncRunning
from datasource.inn8 import Inn8
from datasource.runs import Runs
from datasource.services import Services
from datasource.settings import Settings
from datasource.subscriptions import subscribe
from datasource.sync import Syncs

SERVICE = "datasource-service"
RESOURCES = (records, quarantine, sync, person_data)
_DRAIN_SECONDS = 2.0
_PATIENCE = 0.03  # seconds: nobody waits for our events
_RESUME_EVERY = timedelta(seconds=30)
_LOGS_KEPT = timedelta(days=90)

REFUSALS: dict[type[Exception], Problem] = {
    NoSource: Problem(status=404, error_type="source-not-found", title="No data source"),
    SyncRunning: Problem(
        status=409, error_type="sync-running", title="A sync is running", headers={"Retry-After": "5"}
    ),
    NotFound: Problem(status=404, error_type="record-not-found", title="No such record"),
    OfOtherTenant: Problem(status=403, error_type="different-tenant", title="Record belongs to different tenant"),
    StillInvalid: Problem(status=409, error_type="still-invalid", title="It can't be taken now either"),
}


def create_app(settings: Settings, *, sidecar: Sidecar | None = None) -> FastAPI:
    sidecar = sidecar or Sidecar(port=settings.dapr_http_port, source=SERVICE, api_token=settings.dapr_api_token)
    made = assemble(settings, sidecar)

    app = create_service(
        title="Brewline data source",
        settings=settings,
        sidecar=sidecar,
        rules=RULES,
        start=lambda lifespan: _start(lifespan, made),
        health=Health(
            usual_checks(db=made.db, sidecar=sidecar, state_store=settings.state_store, pubsub=settings.pubsub)
        ),
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


def assemble(settings: Settings, sidecar: Sidecar) -> Services:
    """Everything, connected to nothing yet."""
    db = Database(settings.database_url)
    leases = Leases(db, tables.leases)
    outbox = Outbox(
        db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub=settings.pubsub, patience=_PATIENCE
    )
    changes = Changes(db=db, table=tables.changes, leases=leases)
    flags = Flags()
    tasks = Tasks()
    secrets: dict[str, str] = {}
    lease = timedelta(seconds=settings.lease_seconds)
    runs = Runs(db, lease=lease, lag=timedelta(seconds=settings.lag_seconds))
    sources = {
        source.tenant: (
            source,
            Inn8(sidecar, source.endpoint, Token(sidecar, source, secrets), page_rows=settings.page_rows),
        )
        for source in settings.sources
    }
    syncs = Syncs(db=db, runs=runs, outbox=outbox, sources=sources, tasks=tasks, lease=lease)
    ended = Expiry.of(tables.sync_logs.c.end_time, _LOGS_KEPT)
    jobs = (
        Job(
            name="Sync",
            every=timedelta(seconds=settings.sync_seconds),
            work=syncs.sync_all,
            at_start=(timedelta(0),),
        ),
        # Also once the leases of a predecessor that died are over.
        Job(
            name="ResumeSyncs",
            every=_RESUME_EVERY,
            work=syncs.resume_abandoned,
            at_start=(lease + timedelta(seconds=0.5),),
        ),
        retention.job(db, (outbox.expiry, changes.expiry, ended)),
    )
    return Services(
        settings=settings,
        db=db,
        sidecar=sidecar,
        tasks=tasks,
        outbox=outbox,
        changes=changes,
        snapshot=Snapshot(flags=flags, db=db, table=tables.settings_snapshot, changes=changes, sidecar=sidecar),
        jobs=Jobs(db=db, runs=tables.job_runs, paused=paused_by(flags), sidecar=sidecar, leases=leases, jobs=jobs),
        runs=runs,
        syncs=syncs,
        secrets=secrets,
    )


async def _start(lifespan: Lifespan, made: Services) -> None:
    await lifespan.database(made.db, datasource, tables.metadata)
    if made.db.exclusive:
        await made.runs.release_all()
    await lifespan.start(made.sidecar)
    needs = tuple({source.secret for source in made.settings.sources})
    made.secrets.update(await read_secrets(made.sidecar, store=made.settings.secret_store, name=SERVICE, needs=needs))
    await made.snapshot.load()
    lifespan.loop(made.outbox.run(), name="outbox-relay")
    lifespan.loop(made.changes.run(), name="changes")
    lifespan.loop(made.snapshot.run(), name="settings")
    lifespan.loop(keep_figures(made.db, made.outbox.figures), name="figures")
    lifespan.push_async_callback(made.tasks.drain, within=_DRAIN_SECONDS)
    await lifespan.start(made.jobs)
