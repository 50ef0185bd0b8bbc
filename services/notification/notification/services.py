"""Everything that runs, made once (app.py) and handed to whoever needs it."""

from dataclasses import dataclass
from typing import cast

from dapr.ext.workflow import WorkflowRuntime
from fastapi import Request

from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.flags.memory import Flags
from chassis.flags.snapshot import Snapshot
from chassis.health import Health
from chassis.jobs import Jobs
from chassis.outbox import Outbox
from chassis.saga import Saga
from chassis.sidecar import Sidecar
from chassis.tasks import Tasks
from notification.bulk.worker import Bulks
from notification.channels import OpenChannels
from notification.clients import PersonHolders
from notification.incoming.intake import Intake
from notification.incoming.redelivery import Redelivery
from notification.incoming.saga import TellRef
from notification.password_reset import Resets
from notification.receipts.inbound import Receipts
from notification.receipts.signatures import ReceiptSignatures
from notification.recipients.unsubscribe_link import Unsubscribing
from notification.sending.sender import Sender
from notification.templates.catalog import Catalog
from notification.unit_of_work import Units


@dataclass(frozen=True, kw_only=True)
class Services:
    """`opened` is None where a test brings channels of its own, `runtime` where nothing durable runs."""

    db: Database
    sidecar: Sidecar
    pubsub: str
    opened: OpenChannels | None
    unsubscribing: Unsubscribing
    signatures: ReceiptSignatures
    outbox: Outbox
    changes: Changes
    health: Health
    flags: Flags
    snapshot: Snapshot
    cache: Cache
    person_holders: PersonHolders
    units: Units
    catalog: Catalog
    sender: Sender
    resets: Resets
    receipts: Receipts
    bulks: Bulks
    intake: Intake
    redelivery: Redelivery
    jobs: Jobs
    tasks: Tasks
    saga: Saga[TellRef]
    runtime: WorkflowRuntime | None


def services(request: Request) -> Services:
    return cast("Services", request.app.state.services)
