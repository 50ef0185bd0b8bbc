"""Dead letters: what could not be processed is kept, with whatever can be read of it, for inspection and replay."""

import hashlib
import re
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, cast

import orjson
import sqlalchemy as sa
import structlog
from fastapi import FastAPI, Request

from chassis.db import Database, upsert
from chassis.edge.auth import TENANT
from chassis.ids import new_id, now
from chassis.problems import DATABASE_DOWN
from chassis.telemetry import told_of
from notification.domain import (
    DEFAULT_TENANT,
    OtherTenant,
    UnknownDeadLetter,
)
from notification.queue.history import Page, Rows, elsewhere, paged
from notification.tables import dead_letters

log = structlog.get_logger()
NO_ID = "sha256:"  # begins the `event_id` of a dead letter without an id of its own


# --- dead letters in ---
@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that nobody could process. `event_id` is the body's hash where it has no id, `topic` may be empty."""

    tenant: str
    topic: str
    event_id: str
    type: str
    body: str


def keep_dead(conn: sa.Connection, letter: DeadLetter) -> None:
    """Kept once, as of when it came last: one that dies again after its replay waits for inspection again."""
    row = {field.name: getattr(letter, field.name) for field in fields(letter)}
    kept = (
        upsert(conn, dead_letters)
        .values(id=new_id(), received_at=now(), **row)
        .on_conflict_do_update(
            index_elements=[dead_letters.c.tenant, dead_letters.c.topic, dead_letters.c.event_id],
            set_={"received_at": now(), "replayed_at": None},
        )
    )
    conn.execute(kept)


class DeadLetters:
    """A tenant's dead letters."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def page(self, page: Page) -> Rows:
        return paged(self._conn, dead_letters, sa.select(dead_letters).where(self._mine), page)

    def replayed(self, letter_id: str, received_at: datetime) -> sa.Row[Any]:
        """The letter, now marked as published again, unless it has died again since it was received at that time."""
        same = sa.and_(dead_letters.c.id == letter_id, dead_letters.c.received_at == received_at)
        self._conn.execute(sa.update(dead_letters).where(self._mine, same).values(replayed_at=now()))
        return self.get(letter_id)

    def get(self, letter_id: str) -> sa.Row[Any]:
        """Raises UnknownDeadLetter or OtherTenant."""
        query = sa.select(dead_letters).where(self._mine, dead_letters.c.id == letter_id)
        if (row := self._conn.execute(query).one_or_none()) is not None:
            return row
        if elsewhere(self._conn, dead_letters, letter_id, self._tenant):
            raise OtherTenant("Dead letter")
        raise UnknownDeadLetter(letter_id)

    @property
    def _mine(self) -> sa.ColumnElement[bool]:
        """What every statement here is bound to."""
        return dead_letters.c.tenant == self._tenant


# --- dead letters ---
_SUCCESS, _RETRY = {"status": "SUCCESS"}, {"status": "RETRY"}


def keep_dead_letters(app: FastAPI, path: str, db: Database) -> None:
    """The route of every dead-letter topic. Whatever it is, it is kept as it came: nothing is refused a second time."""

    async def deliver(request: Request) -> dict[str, str]:
        letter = dead_letter(await request.body())
        with told_of(tenant=letter.tenant, event_id=letter.event_id):
            try:
                await db.write(lambda conn: keep_dead(conn, letter))
            except (*DATABASE_DOWN, OSError) as down:
                log.warning("dead_letter.retry", error=type(down).__name__)
                return _RETRY
            log.error("dead_letter.kept", topic=letter.topic, type=letter.type)
            return _SUCCESS

    app.post(path, include_in_schema=False)(deliver)


def dead_letter(body: bytes) -> DeadLetter:
    """A delivery as a row; what can't be read in it is left empty."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    event = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    return DeadLetter(
        tenant=_tenant(event.get("tenantid")),
        topic=_text(event.get("topic"), 128).removesuffix(".dead"),
        event_id=_text(event.get("id"), 255) or f"{NO_ID}{hashlib.sha256(body).hexdigest()}",
        type=_text(event.get("type"), 128),
        body=body.decode(errors="replace").replace("\x00", "\ufffd"),
    )


def _tenant(value: Any) -> str:
    """One that some administrator can be of; else it would be kept where nobody sees it."""
    return value if isinstance(value, str) and re.fullmatch(TENANT, value) else DEFAULT_TENANT


def _text(value: Any, longest: int) -> str:
    """`value` if it is a text that fits its column, else nothing."""
    return value if isinstance(value, str) and len(value) <= longest and value.isprintable() else ""
