"""The side effects of a saga's steps, each idempotent by its business key."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa
import structlog

from chassis.db import Database
from chassis.events import InvalidEvent
from chassis.ids import now
from chassis.incidents import record_incident
from chassis.saga import Incident, Performer, Run, StepRecord
from chassis.story import Unknown
from notification.domain import FINAL, Status
from notification.incoming.messages import messages
from notification.incoming.saga import Completed, StepEnded, TellRef, TellStep
from notification.incoming.saga_records import COMPLETED, event_of, is_saga
from notification.queue.enqueue import enqueue
from notification.queue.new_notification import effect_of
from notification.sending.sender import Sender
from notification.tables import incidents, notifications, of_group, sagas

log = structlog.get_logger()

_STEP_WITHIN = timedelta(hours=1)  # after that the story goes on without this step
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds in which a message is usually gone; after them a timer waits
_REACHED = frozenset({Status.SENT, Status.DELIVERED})


class Steps:
    def __init__(self, *, db: Database, sender: Sender, pauses: Sequence[float] = _PAUSES) -> None:
        self._db = db
        self._sender = sender
        self._pauses = pauses

    def performers(self) -> dict[str, Performer]:
        return {
            "tell": Performer(perform=self.tell, outcome=StepEnded, argument=TellStep),
            "complete": Performer(perform=self.complete, outcome=Completed),
        }

    async def tell(self, saga: TellRef, step: TellStep, _run: Run) -> StepEnded | Unknown:
        """Queue the step's messages, once; `sent` when one of them is."""
        group = effect_of("saga", saga.id, step.name)
        await self._db.write(lambda conn: _queue(conn, saga, step.name, group))
        self._sender.wake()
        for pause in (0.0, *self._pauses):
            await asyncio.sleep(pause)
            if (sent := await self._db.read(lambda conn: _outcome(conn, saga, group))) is not None:
                first = await self._db.write(lambda conn, sent=sent: _end(conn, saga, step.name, sent=sent))
                return StepEnded(step=step.name, sent=first)
        return Unknown(reason="not sent yet", pending=True)

    async def complete(self, saga: TellRef, _argument: None, _run: Run) -> Completed:
        ended = {"current_step": COMPLETED, "completed_at": now(), "due_at": None, "version": sagas.c.version + 1}
        done = sa.update(sagas).where(is_saga(saga), sagas.c.completed_at.is_(None)).values(ended)
        await self._db.write(lambda conn: conn.execute(done))
        return Completed()

    async def give_up(self, saga: TellRef, incident: Incident) -> None:
        """A step broke for good: on record, it has ended, and whom it would have told hears nothing."""
        step = TellStep.model_validate(incident.step.argument).name

        def work(conn: sa.Connection) -> None:
            if record_incident(conn, incidents, tenant=saga.tenant, saga_id=saga.id, incident=incident, step=step):
                _end(conn, saga, step, sent=False)

        await self._db.write(work)

    async def flush(self, saga: TellRef, records: list[StepRecord]) -> None:
        """Its steps are on record by themselves."""


def _queue(conn: sa.Connection, saga: TellRef, step: str, group: str) -> None:
    event = event_of(conn.execute(sa.select(sagas).where(is_saga(saga))).one())
    routes = [route for route in event.routes if route.step == step]
    try:
        drafts = messages(conn, event, routes, group_id=group)
    except InvalidEvent as invalid:  # a group that the event cannot name: the step reaches nobody, and has ended
        log.warning("saga.step_without_recipients", saga=saga.id, step=step, reason=str(invalid))
        drafts = []
    # Forward only: a step may be told again, by a driver that died or came late, after the story went on.
    first = conn.execute(sa.select(notifications.c.id).where(of_group(saga.tenant, group)).limit(1)).first() is None
    # Its own step too, when it is told at last: the first one stands there since the event came.
    earlier = sagas.c.current_step.in_(saga.steps[: saga.steps.index(step) + first])
    begun = {"current_step": step, "step_started_at": now(), "version": sagas.c.version + 1}
    conn.execute(sa.update(sagas).where(is_saga(saga), sagas.c.completed_at.is_(None), earlier).values(begun))
    enqueue(conn, drafts, at=now())


def _outcome(conn: sa.Connection, saga: TellRef, group: str) -> bool | None:
    """Whether the step reached anybody; None while that is open and there is time."""
    messages_of_step = of_group(saga.tenant, group)
    found = conn.execute(sa.select(notifications.c.status).where(messages_of_step)).scalars()
    statuses = {Status(status) for status in found}
    if statuses & _REACHED:
        return True
    if statuses <= FINAL:
        return False
    began = conn.execute(sa.select(sagas.c.step_started_at).where(is_saga(saga))).scalar_one()
    return False if now() - began > _STEP_WITHIN else None


def _end(conn: sa.Connection, saga: TellRef, step: str, *, sent: bool) -> bool:
    """A step ends once: its first `sent`, whatever has become of its messages since."""
    row = conn.execute(sa.select(sagas.c.steps).where(is_saga(saga)).with_for_update()).one()
    steps: list[dict[str, Any]] = orjson.loads(row.steps)
    if known := next((record for record in steps if record["step"] == step), None):
        return bool(known["sent"])
    steps.append({"step": step, "sent": sent, "endedAt": now().isoformat()})
    ended = {"steps": orjson.dumps(steps).decode(), "version": sagas.c.version + 1}
    conn.execute(sa.update(sagas).where(is_saga(saga)).values(ended))
    return sent
