"""The unit of work: what a request does to a tenant's records happens in one transaction or not at all."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import sqlalchemy as sa

from chassis.db import Database
from notification.announcements import Announcements
from notification.idempotency import Keys
from notification.incoming.dead_letter_records import DeadLetters
from notification.incoming.routing_table import Routes
from notification.incoming.saga_records import Sagas
from notification.queue.history import Notifications
from notification.recipients.contacts import Contacts
from notification.recipients.preferences import Preferences
from notification.templates.versions import Templates

T = TypeVar("T")


@dataclass(frozen=True)
class UnitOfWork:
    """A tenant's records within one transaction; `owner` as `Caller.owner`: None sees everybody's."""

    conn: sa.Connection
    tenant: str
    owner: str | None = None

    @cached_property
    def notifications(self) -> Notifications:
        return Notifications(self.conn, self.tenant, self.owner)

    @cached_property
    def templates(self) -> Templates:
        return Templates(self.conn, self.tenant)

    @cached_property
    def contacts(self) -> Contacts:
        return Contacts(self.conn, self.tenant)

    @cached_property
    def preferences(self) -> Preferences:
        return Preferences(self.conn, self.tenant)

    @cached_property
    def routes(self) -> Routes:
        return Routes(self.conn, self.tenant)

    @cached_property
    def sagas(self) -> Sagas:
        return Sagas(self.conn, self.tenant, self.owner)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.conn, self.tenant)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.conn, self.tenant)


class Units:
    """A unit may be run again (see chassis.db), so it changes nothing but its records."""

    def __init__(self, db: Database, announcements: Announcements) -> None:
        self._db = db
        self._announcements = announcements

    async def write(self, tenant: str, work: Callable[[UnitOfWork], T], *, owner: str | None = None) -> T:
        """All of it on disk when this returns; nothing of it when it raises."""
        done = await self._db.write(lambda conn: work(UnitOfWork(conn, tenant, owner)))
        self._announcements.wake()
        return done

    async def read(self, tenant: str, work: Callable[[UnitOfWork], T], *, owner: str | None = None) -> T:
        return await self._db.read(lambda conn: work(UnitOfWork(conn, tenant, owner)))
