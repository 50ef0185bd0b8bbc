"""Assembles the service."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI

import chassis.app
import notification
from chassis import migrations
from chassis.app import database_check
from chassis.db import Database
from chassis.events import subscribe
from chassis.health import Check
from chassis.problems import Problem
from chassis.sidecar import Sidecar
from notification.access import RULES
from notification.api import routes
from notification.channels import Channels, open_channels
from notification.channels.email import greets
from notification.domain import (
    DeadLetterOfOtherTenant,
    NotificationOfOtherTenant,
    NotReplayable,
    NotYourNotification,
    UnknownDeadLetter,
    UnknownNotification,
)
from notification.sender import Sender
from notification.settings import Settings
from notification.subscriptions import keep_dead_letters, order_handlers
from notification.tables import metadata

_REFUSALS: Mapping[type[Exception], Problem] = {
    UnknownNotification: Problem(status=404, error_type="notification-not-found", title="Notification not found"),
    NotificationOfOtherTenant: Problem(
        status=403, error_type="different-tenant", title="Notification belongs to different tenant"
    ),
    NotYourNotification: Problem(status=403, error_type="not-owner", title="Not your notification"),
    UnknownDeadLetter: Problem(status=404, error_type="dead-letter-not-found", title="Dead letter not found"),
    DeadLetterOfOtherTenant: Problem(
        status=403, error_type="different-tenant", title="Dead letter belongs to different tenant"
    ),
    NotReplayable: Problem(status=409, error_type="not-replayable", title="This dead letter can't be replayed"),
}


def create_app(settings: Settings, *, sidecar: Sidecar | None = None, channels: Channels | None = None) -> FastAPI:
    sidecar = sidecar or Sidecar(
        port=settings.dapr_http_port, source="notification-service", api_token=settings.dapr_api_token
    )
    db = Database(settings.database_url)
    sender = Sender(db=db, channels=channels or open_channels(settings, sidecar))

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        await db.start()  # first of all: its lock tells two processes on one file apart
        await asyncio.to_thread(migrations.upgrade, settings.database_url, notification, metadata)
        await sidecar.start()
        sender.start()
        yield
        await sender.stop()
        await sidecar.stop()
        await db.stop()

    app = chassis.app.create_app(
        title="Brewline notifications",
        settings=settings,
        sidecar=sidecar,
        rules=RULES,
        lifespan=lifespan,
        checks=_checks(settings, db, sidecar),
        refusals=_REFUSALS,
    )
    app.include_router(routes(db=db, sidecar=sidecar, pubsub=settings.pubsub))
    subscribe(app, "/events/orders", order_handlers(db, sender))
    keep_dead_letters(app, "/events/dead", db)
    return app


def _checks(settings: Settings, db: Database, sidecar: Sidecar) -> dict[str, Check]:
    async def sidecar_alive() -> None:
        sidecar.require()

    async def smtp_greets() -> None:
        await greets(settings.smtp_host, settings.smtp_port)

    return {
        "database": database_check(db),
        # Without them nothing is lost: rows wait.
        "sidecar": Check(probe=sidecar_alive, required=False),
        "smtp": Check(probe=smtp_greets, required=False),
    }
