"""Everything that runs, made once (app.py) and handed to whoever needs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from fastapi import Request

from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.flags.memory import Flags
from chassis.flags.snapshot import Snapshot
from chassis.health import Health
from chassis.jobs import Jobs
from chassis.outbox import Outbox
from chassis.sealing import Sealer
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks
from payment.charges import Charges
from payment.domain import Charge, Refund
from payment.driver import Driver
from payment.providers import Provider
from payment.refunds import Refunds
from payment.routing import Routes
from payment.webhooks import Webhooks


@dataclass(frozen=True, kw_only=True)
class Services:
    """`by_name` are the providers; `secrets` is empty until the service starts."""

    db: Database
    sealer: Sealer
    sidecar: Sidecar
    outbox: Outbox
    changes: Changes
    health: Health
    flags: Flags
    snapshot: Snapshot
    tasks: Tasks
    jobs: Jobs
    charges: Charges
    refunds: Refunds
    routes: Routes
    charge_driver: Driver[Charge]
    refund_driver: Driver[Refund]
    webhooks: Webhooks
    by_name: Mapping[str, Provider]
    secrets: dict[str, str]


def services(request: Request) -> Services:
    return cast("Services", request.app.state.services)
