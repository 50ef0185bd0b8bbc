"""Dead letters: what an app could not process is kept, with whatever can be read of it, to be looked at and delivered
again."""

import hashlib
import re
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, cast

import orjson
import sqlalchemy as sa
import structlog

from chassis.db import DATABASE_DOWN, Database, upsert
from chassis.edge.auth import TENANT
from chassis.ids import new_id, now
from chassis.problems import Unavailable
from chassis.sidecar import Sidecar, Verdict
from chassis.telemetry import told_of
from chassis.tenants import elsewhere
from chassis.texts import one_line
from notification.domain import DEFAULT_TENANT, NotReplayable, OtherTenant, UnknownDeadLetter
from notification.queue.history import Page, Rows, paged
from notification.tables import dead_letters

log = structlog.get_logger()

_LONGEST = 255  # characters of an event's id or source, as chassis.events reads them
_SUCCESS, _RETRY = {"status": "SUCCESS"}, {"status": "RETRY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that `app` could not process. What can't be read in it is "". `key` tells it from all others."""

    tenant: str
    key: str
    app: str
    topic: str
    source: str
    event_id: str
    type: str
    body: str


async def keep(db: Database, body: bytes, *, app_id: str, topic: str) -> dict[str, str]:
    """Dapr's answer for one delivery."""
    letter = dead_letter(body, app_id=app_id, topic=topic)
    with told_of(tenant=letter.tenant, event_id=letter.event_id):
        try:
            await db.write(lambda conn: keep_once(conn, letter))
        except (*DATABASE_DOWN, OSError) as down:
            log.warning("dead_letter.retry", error=type(down).__name__)
            return _RETRY
        log.error("dead_letter.kept", app=letter.app, topic=letter.topic, type=letter.type)
        return _SUCCESS


def keep_once(conn: sa.Connection, letter: DeadLetter) -> None:
    """As of when it came last: one that dies again after its replay waits for inspection again."""
    row = {field.name: getattr(letter, field.name) for field in fields(letter)}
    kept = (
        upsert(conn, dead_letters)
        .values(id=new_id(), received_at=now(), **row)
        .on_conflict_do_update(
            index_elements=[dead_letters.c.tenant, dead_letters.c.key],
            set_={"received_at": now(), "replayed_at": None},
        )
    )
    conn.execute(kept)


def dead_letter(body: bytes, *, app_id: str, topic: str) -> DeadLetter:
    """A delivery as a row."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    event = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    source, event_id = _text(event.get("source")), _text(event.get("id"))
    known_by = (source, event_id) if event_id else (hashlib.sha256(body).hexdigest(),)
    return DeadLetter(
        tenant=_tenant(event.get("tenantid")),
        key=hashlib.sha256("\x00".join((app_id, topic, *known_by)).encode()).hexdigest(),
        app=app_id[:64],
        topic=topic[:128],
        source=source[:_LONGEST],
        event_id=event_id[:_LONGEST],
        type=_text(event.get("type"))[:128],
        body=body.decode(errors="replace").replace("\x00", "\ufffd"),
    )


def _tenant(value: Any) -> str:
    """One that some administrator can be of; else it would be kept where nobody sees it."""
    return value if isinstance(value, str) and re.fullmatch(TENANT, value) else DEFAULT_TENANT


def _text(value: Any) -> str:
    return one_line(value) if isinstance(value, str) else ""


async def redeliver(sidecar: Sidecar, letter: sa.Row[Any]) -> None:
    """To the app's route for the topic, `/events/<topic>`, as its sidecar would; by invocation, since what is published
    reaches all who hear it. Raises NotReplayable, or Unavailable where it may work later."""
    try:
        event = orjson.loads(letter.body)
    except orjson.JSONDecodeError:
        raise NotReplayable("It is no JSON") from None
    answer = await sidecar.invoke(letter.app, f"events/{letter.topic}", _readable(event), private=True)
    # Without a word of its own nobody knows: a 200 may be a sidecar's that died.
    status = cast("dict[str, Any]", answer.data).get("status") if isinstance(answer.data, dict) else None
    if answer.verdict is Verdict.REFUSED or (answer.verdict is Verdict.ANSWERED and status == "DROP"):
        raise NotReplayable(f"{letter.app} can't process it")
    if answer.verdict is not Verdict.ANSWERED or status != "SUCCESS":
        raise Unavailable("app")


def _readable(event: Any) -> Any:
    """With the hash of an id, or source, that is longer than any app takes: as much its own, whenever it comes."""
    if not isinstance(event, dict):
        return event
    given = cast("dict[str, Any]", event)
    names = {name: given[name] for name in ("id", "source") if isinstance(given.get(name), str)}
    hashed = {
        name: hashlib.sha256(value.encode()).hexdigest() for name, value in names.items() if len(value) > _LONGEST
    }
    return given | hashed


class DeadLetters:
    """A tenant's dead letters."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def page(self, page: Page) -> Rows:
        return paged(self._conn, dead_letters, sa.select(dead_letters).where(self._of_tenant), page)

    def replayed(self, letter_id: str, received_at: datetime) -> sa.Row[Any]:
        """The letter, now marked as delivered, unless it has died again since it was received at that time."""
        same = sa.and_(dead_letters.c.id == letter_id, dead_letters.c.received_at == received_at)
        self._conn.execute(sa.update(dead_letters).where(self._of_tenant, same).values(replayed_at=now()))
        return self.get(letter_id)

    def get(self, letter_id: str) -> sa.Row[Any]:
        """Raises UnknownDeadLetter or OtherTenant."""
        query = sa.select(dead_letters).where(self._of_tenant, dead_letters.c.id == letter_id)
        if (row := self._conn.execute(query).one_or_none()) is not None:
            return row
        if elsewhere(self._conn, dead_letters, self._tenant, id=letter_id):
            raise OtherTenant("Dead letter")
        raise UnknownDeadLetter(letter_id)

    @property
    def _of_tenant(self) -> sa.ColumnElement[bool]:
        """What every statement here is bound to."""
        return dead_letters.c.tenant == self._tenant
