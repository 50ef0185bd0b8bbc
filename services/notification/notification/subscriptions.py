"""Events in: whatever the routing table knows, and the dead letters. Handlers commit, wake who goes on, and do nothing
else."""

import hashlib
import re
from typing import Any, cast

import orjson
import structlog
from fastapi import FastAPI, Request

from chassis.db import Database
from chassis.edge.auth import TENANT
from chassis.events import CloudEvent
from chassis.problems import DATABASE_DOWN
from chassis.tasks import Tasks
from chassis.telemetry import told_of
from notification import store
from notification.domain import DEFAULT_TENANT
from notification.intake import take
from notification.routing import RouteTable, read
from notification.sagas import Steps
from notification.sender import Sender
from notification.store import NO_ID, DeadLetter

log = structlog.get_logger()


class Intake:
    def __init__(self, *, db: Database, routes: RouteTable, sender: Sender, steps: Steps, tasks: Tasks) -> None:
        self._db = db
        self._routes = routes
        self._sender = sender
        self._steps = steps
        self._tasks = tasks

    async def take(self, topic: str, event: CloudEvent) -> None:
        """The event's whole effect, once; with `chassis.events.subscribe` for `/events/{topic}`, so that a new topic
        needs a Subscription and rows in the routing table. An event that no route knows is for somebody else."""
        route = await self._routes.find(event.tenantid, topic, event.type)
        if route is None:
            return
        news = read(event, route)
        lease = self._sender.lease()
        taken = await self._db.write(lambda conn: take(conn, news, lease_until=lease))
        self._sender.hand_over(taken.leased)
        if taken.saga is not None:  # not awaited: the sidecar waits for this answer
            self._tasks.spawn(self._steps.hand_over(taken.saga, "begun"), name="saga.begin")


# --- dead letters ---

_SUCCESS, _RETRY = {"status": "SUCCESS"}, {"status": "RETRY"}


def keep_dead_letters(app: FastAPI, path: str, db: Database) -> None:
    """The route of every dead-letter topic. Whatever it is, it is kept as it came: nothing is refused a second time."""

    async def deliver(request: Request) -> dict[str, str]:
        letter = dead_letter(await request.body())
        with told_of(tenant=letter.tenant, event_id=letter.event_id):
            try:
                await db.write(lambda conn: store.keep_dead(conn, letter))
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
