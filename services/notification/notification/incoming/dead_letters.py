"""Dead letters: what an app could not process is kept, with whatever can be read of it, until a person has looked at
it (dead_letter_records.py) and delivers it again (redelivery.py)."""

import hashlib
import re
from dataclasses import dataclass, fields
from typing import Any, cast

import orjson
import sqlalchemy as sa
import structlog

from chassis.db import DATABASE_DOWN, Database, upsert
from chassis.edge.auth import TENANT
from chassis.ids import new_id, now
from chassis.telemetry import told_of
from chassis.texts import one_line
from notification import telemetry
from notification.domain import DEFAULT_TENANT
from notification.tables import dead_letters

log = structlog.get_logger()

LONGEST = 255  # characters of an event's id or source, as chassis.events reads them
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
        telemetry.dead_letters.add(1, {"app": letter.app, "topic": letter.topic})
        log.error("dead_letter.kept", app=letter.app, topic=letter.topic, type=letter.type)
        return _SUCCESS


def keep_once(conn: sa.Connection, letter: DeadLetter) -> None:
    """As of when it came last: one that dies again after it was replayed or discarded waits for inspection again, as it
    was edited."""
    row = {field.name: getattr(letter, field.name) for field in fields(letter)}
    kept = (
        upsert(conn, dead_letters)
        .values(id=new_id(), received_at=now(), **row)
        .on_conflict_do_update(
            index_elements=[dead_letters.c.tenant, dead_letters.c.key],
            set_={
                "received_at": now(),
                "replayed_at": None,
                "discarded_at": None,
                "times": dead_letters.c.times + 1,
                "version": dead_letters.c.version + 1,
            },
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
        source=source[:LONGEST],
        event_id=event_id[:LONGEST],
        type=_text(event.get("type"))[:128],
        body=body.decode(errors="replace").replace("\x00", "\ufffd"),
    )


def _tenant(value: Any) -> str:
    """One that some administrator can be of; else it would be kept where nobody sees it."""
    return value if isinstance(value, str) and re.fullmatch(TENANT, value) else DEFAULT_TENANT


def _text(value: Any) -> str:
    return one_line(value) if isinstance(value, str) else ""
