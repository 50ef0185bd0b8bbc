"""Assembles the back office."""

from collections.abc import Mapping
from datetime import timedelta

from dapr.ext.workflow import WorkflowRuntime
from fastapi import FastAPI

import backoffice
from backoffice import tables
from backoffice.access import RULES
from backoffice.api import exports, features, files, jobs, pages, person_data, sign_in, snapshot
from backoffice.api import settings as settings_api
from backoffice.api import traces as traces_api
from backoffice.clients import Rows
from backoffice.domain import (
    ConcurrencyConflict,
    FileGone,
    JobEnded,
    JobNotFound,
    JobOfOtherTenant,
    LinkExpired,
    LinkForged,
    NoMap,
    NotYourJob,
    SettingNotFound,
    TooManySettings,
    TraceNotFound,
    TracesNotConfigured,
)
from backoffice.exports.expiry import Expiry
from backoffice.exports.link import Links
from backoffice.exports.progress import Progress
from backoffice.exports.steps import Steps
from backoffice.exports.workflow import ExportJobs
from backoffice.files.domain import FileNotFound, FileOfOtherTenant, FileTypeNotAllowed, NotYourFile
from backoffice.files.keeping import Keeping
from backoffice.services import Services
from backoffice.settings import Settings
from backoffice.settings_store import SettingsStore
from backoffice.sign_in.issuer import Issuer
from backoffice.sign_in.renewal import Renewals
from backoffice.sign_in.sign_in import SignIn
from backoffice.storage import Storage
from backoffice.subscriptions import subscribe
from backoffice.traces import traces_of
from chassis import retention
from chassis.app import create_app as create_service
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.edge.tokens import Tokens, keys_of
from chassis.figures import keep_figures
from chassis.flags.memory import Flags
from chassis.health import Health, usual_checks
from chassis.jobs import Jobs
from chassis.leases import Leases
from chassis.lifespan import Lifespan
from chassis.outbox import Outbox
from chassis.problems import Problem
from chassis.recurring import paused_by
from chassis.sealing import Sealer
from chassis.secrets import read_secrets
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks

SERVICE = "backoffice-service"
RESOURCES = (files, exports, jobs, person_data, settings_api, features, snapshot, pages, sign_in, traces_api)
_DRAIN_SECONDS = 5.0
_PATIENCE = 0.03  # seconds: nobody waits for our events

REFUSALS: dict[type[Exception], Problem] = {
    FileNotFound: Problem(status=404, error_type="file-not-found", title="No such file"),
    FileOfOtherTenant: Problem(status=403, error_type="different-tenant", title="File belongs to different tenant"),
    NotYourFile: Problem(status=403, error_type="not-owner", title="Not yours"),
    FileTypeNotAllowed: Problem(
        status=415, error_type="file-type-not-allowed", title="Files of this type are not taken"
    ),
    SettingNotFound: Problem(status=404, error_type="setting-not-found", title="No such setting"),
    ConcurrencyConflict: Problem(status=409, error_type="concurrency-conflict", title="Changed by somebody else"),
    TooManySettings: Problem(status=409, error_type="too-many-settings", title="Too many settings"),
    JobNotFound: Problem(status=404, error_type="job-not-found", title="No such job"),
    JobOfOtherTenant: Problem(status=403, error_type="different-tenant", title="Job belongs to different tenant"),
    NotYourJob: Problem(status=403, error_type="not-owner", title="Not your job"),
    JobEnded: Problem(status=409, error_type="job-ended", title="The job has ended"),
    LinkForged: Problem(status=403, error_type="link-invalid", title="This link is not one of ours"),
    LinkExpired: Problem(status=410, error_type="link-expired", title="This link has expired"),
    TraceNotFound: Problem(status=404, error_type="trace-not-found", title="No such trace"),
    TracesNotConfigured: Problem(status=404, error_type="traces-not-configured", title="No store of traces is named"),
    NoMap: Problem(status=404, error_type="no-map", title="This store of traces draws no map"),
    FileGone: Problem(status=410, error_type="file-gone", title="The file is gone"),
}


def create_app(
    settings: Settings, *, sidecar: Sidecar | None = None, runtime: WorkflowRuntime | None = None
) -> FastAPI:
    """The service. `runtime` is the workflow worker that `main` makes; without one nothing durable runs here."""
    sidecar = sidecar or Sidecar(port=settings.dapr_http_port, source=SERVICE, api_token=settings.dapr_api_token)
    made = _assemble(settings, sidecar, runtime)

    app = create_service(
        title="Brewline back office",
        settings=settings,
        sidecar=sidecar,
        rules=RULES,
        start=lambda lifespan: _start(lifespan, made),
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


def _assemble(settings: Settings, sidecar: Sidecar, runtime: WorkflowRuntime | None) -> Services:
    db = Database(settings.database_url)
    leases = Leases(db, tables.leases)
    outbox = Outbox(
        db=db, table=tables.outbox, leases=leases, sidecar=sidecar, pubsub=settings.pubsub, patience=_PATIENCE
    )
    changes = Changes(db=db, table=tables.changes, leases=leases)
    secrets: dict[str, str] = {}
    sealer = Sealer()
    storage = Storage(settings.storage, secrets)
    keeping = Keeping(db=db, storage=storage, abandoned=timedelta(seconds=settings.abandoned_seconds))
    flags = Flags()
    flags.configured = settings.configured
    stored_settings = SettingsStore(db=db, outbox=outbox, changes=changes, flags=flags)
    links = Links(settings.public_url)
    steps = Steps(
        progress=Progress(db=db, outbox=outbox, links=links),
        rows=Rows(sidecar, limit=settings.export_page),
        storage=storage,
        folder=settings.export_folder,
    )
    export_jobs = ExportJobs(
        db=db, sidecar=sidecar, steps=steps, again=timedelta(seconds=settings.export_again_seconds)
    )
    expiry = Expiry(db=db, storage=storage, keep=timedelta(days=settings.export_days))
    expiring = retention.job(db, (outbox.expiry, changes.expiry))
    return Services(
        settings=settings,
        db=db,
        sidecar=sidecar,
        tasks=Tasks(),
        outbox=outbox,
        changes=changes,
        health=Health(usual_checks(db=db, sidecar=sidecar, state_store=settings.state_store, pubsub=settings.pubsub)),
        jobs=Jobs(
            db=db,
            runs=tables.job_runs,
            paused=paused_by(flags),
            sidecar=sidecar,
            leases=leases,
            jobs=(export_jobs.sweep_job(), expiry.job(), keeping.job, expiring),
        ),
        flags=flags,
        stored_settings=stored_settings,
        secrets=secrets,
        storage=storage,
        keeping=keeping,
        links=links,
        sealer=sealer,
        sign_in=_sign_in(settings, sidecar, secrets, sealer),
        exports=export_jobs,
        expiry=expiry,
        traces=traces_of(settings.traces),
        runtime=runtime,
    )


def _sign_in(settings: Settings, sidecar: Sidecar, secrets: Mapping[str, str], sealer: Sealer) -> SignIn:
    keys = keys_of(settings, sidecar)
    issuer = Issuer(sidecar=sidecar, settings=settings, keys=keys, secrets=secrets)
    return SignIn(
        settings=settings,
        issuer=issuer,
        renewals=Renewals(sidecar=sidecar, store=settings.state_store, sealer=sealer, issuer=issuer),
        tokens=Tokens(keys=keys, settings=settings),
        sealer=sealer,
    )


async def _start(lifespan: Lifespan, made: Services) -> None:
    await lifespan.database(made.db, backoffice, tables.metadata)
    await lifespan.start(made.sidecar)
    store = made.settings.secret_store
    needs = ("link-key", "seal-keys")
    made.secrets.update(await read_secrets(made.sidecar, store=store, name=SERVICE, needs=needs))
    made.links.unlock(made.secrets["link-key"])
    made.sealer.unlock(made.secrets["seal-keys"])
    await lifespan.start(made.storage)
    await made.stored_settings.load()
    lifespan.loop(made.outbox.run(), name="outbox-relay")
    lifespan.loop(made.changes.run(), name="changes")
    lifespan.loop(keep_figures(made.db, made.outbox.figures), name="figures")
    await lifespan.workflow(made.runtime, made.exports)
    lifespan.push_async_callback(made.tasks.drain, within=_DRAIN_SECONDS)
    await lifespan.start(made.jobs)
