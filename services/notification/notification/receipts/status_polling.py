"""Receipts that never came: where its provider can be asked what became of a message, it is.

Of the system scope, as queue.delivery_status: all tenants'. What is learnt goes the way of a receipt: it moves what
may still move, and whoever waits for one hears of it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from chassis.db import Database
from chassis.jobs import Job
from chassis.tasks import for_each
from notification.channels.sms.providers.wire import SmsProvider, SmsStatus
from notification.domain import Status
from notification.outcomes import Receipt
from notification.queue.delivery_status import IN_ONE_RUN, claim_status_questions
from notification.receipts.inbound import Receipts

log = structlog.get_logger()
_AT_ONCE = 8
_LAST_WORDS = {SmsStatus.DELIVERED: Status.DELIVERED, SmsStatus.FAILED: Status.FAILED}

Row = sa.Row[Any]


class StatusPolling:
    """`providers` by their names, of those that rows with an `ask_at` can have. A receipt may be late by `patience`."""

    def __init__(
        self, *, db: Database, receipts: Receipts, providers: Mapping[str, SmsProvider], patience: timedelta
    ) -> None:
        self._db = db
        self._receipts = receipts
        self._providers = providers
        self._patience = patience

    def job(self) -> Job:
        return Job(name="NotificationLookUps", every=timedelta(minutes=1), work=self.poll)

    async def poll(self) -> None:
        """For all that are due, the oldest first. What is not learnt now, for whatever reason, is asked again."""
        while await self._poll_some() == IN_ONE_RUN:
            pass

    async def _poll_some(self) -> int:
        due = await self._db.write(lambda conn: claim_status_questions(conn, self._patience))
        ended = await for_each(due, self._ask, at_once=_AT_ONCE, name=lambda row: row.id)
        if due:
            log.info("status_polling.asked", asked=len(due), ended=ended.count(True))
        return len(due)

    async def _ask(self, row: Row) -> bool:
        """Whether the provider had a last word."""
        answer = await self._providers[row.provider].status(row.provider_message_id)
        if (status := _LAST_WORDS.get(answer)) is None:
            return False
        receipt = Receipt(provider=row.provider, message_id=row.provider_message_id, status=status)
        await self._receipts.take(receipt)
        return True
