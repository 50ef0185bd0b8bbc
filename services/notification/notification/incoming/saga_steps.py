"""Sagas on record, and the side effects of their steps, each idempotent by its business key."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa
import structlog

from chassis.db import Database, upsert
from chassis.events import CloudEvent, InvalidEvent
from chassis.ids import now
from chassis.jobs import Job
from chassis.saga import Performer, Run, StepRecord, Unknown
from chassis.sidecar import Sidecar, SidecarDown
from notification.domain import FINAL, Notification, NotYours, OtherTenant, Status, UnknownSaga
from notification.incoming.messages import messages
from notification.incoming.read_event import News, read
from notification.incoming.routing_table import EventRoute
from notification.incoming.saga import Completed, TellRef, TellStep, Told
from notification.queue.enqueue import enqueue
from notification.queue.new_notification import effect_of
from notification.sending.sender import Sender
from notification.tables import notifications, of_group, sagas

log = structlog.get_logger()

WORKFLOW = "tell_in_turn"
COMPLETED = "Completed"

_STEP_WITHIN = timedelta(hours=1)  # after that the story goes on without this step
_HANDED_OVER = timedelta(seconds=60)  # past the next timer: the sweep only meets runs that died
_BEGUN = timedelta(seconds=10)
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds in which a message is usually gone; after them a timer waits
_REACHED = frozenset({Status.SENT, Status.DELIVERED})
_AT_ONCE = 4
_BATCH = 200


def begin(conn: sa.Connection, news: News) -> TellRef | None:
    """The saga's row, in the transaction of its event; None where it has begun before. Raises InvalidEvent where the
    correlation id is that of another kind of event: its steps would be lost."""
    steps = tuple(dict.fromkeys(route.step for route in news.routes if route.step))
    at = now()
    row = {
        "tenant": news.tenant,
        "tenant_name": news.tenant_name,
        "correlation_id": news.correlation_id,
        "owner": news.owner or (news.person.id if news.person else ""),
        "event_id": news.event_id,
        "topic": news.topic,
        "type": news.type,
        "subject_id": news.subject_id,
        "recipient_id": news.person.id if news.person else "",
        "data": orjson.dumps(news.data).decode(),
        "routes": news.route.model_dump_json(by_alias=True),
        "current_step": steps[0] if steps else COMPLETED,
        "steps": "[]",
        "traceparent": news.traceparent,
        "started_at": at,
        "step_started_at": at,
        "due_at": at + _BEGUN,
        "version": 1,
    }
    ref = TellRef(
        tenant=news.tenant,
        tenant_name=news.tenant_name,
        id=news.correlation_id,
        traceparent=news.traceparent,
        steps=steps,
    )
    if conn.execute(upsert(conn, sagas).values(row).on_conflict_do_nothing()).rowcount == 0:
        known = conn.execute(sa.select(sagas.c.topic, sagas.c.type).where(_this(ref))).one()
        if (known.topic, known.type) != (news.topic, news.type):
            raise InvalidEvent("correlationId: of another kind of event")
        return None
    return ref


def instance_id(ref: TellRef) -> str:
    """At most 64 characters and no colon, as Dapr wants; not guessable across tenants' ids."""
    tenant, correlation = (hashlib.sha256(text.encode()).hexdigest() for text in (ref.tenant, ref.id))
    return f"{tenant[:12]}-{correlation[:40]}"


class Sagas:
    """A tenant's sagas; those of one `owner`, None for everybody's."""

    def __init__(self, conn: sa.Connection, tenant: str, owner: str | None = None) -> None:
        self._conn = conn
        self._tenant = tenant
        self._owner = owner

    def get(self, correlation_id: str) -> sa.Row[Any]:
        """Raises UnknownSaga, OtherTenant or NotYours."""
        found = self._conn.execute(
            sa.select(sagas).where(sagas.c.tenant == self._tenant, sagas.c.correlation_id == correlation_id)
        ).one_or_none()
        if found is None:
            same, theirs = sagas.c.correlation_id == correlation_id, sagas.c.tenant != self._tenant
            if self._conn.execute(sa.select(sagas.c.tenant).where(same, theirs).limit(1)).first() is None:
                raise UnknownSaga(correlation_id)
            raise OtherTenant("Saga")
        if self._owner not in {None, found.owner}:
            raise NotYours("It tells of somebody else's business")
        return found


class Steps:
    def __init__(self, *, db: Database, sidecar: Sidecar, sender: Sender, pauses: Sequence[float] = _PAUSES) -> None:
        self._db = db
        self._sidecar = sidecar
        self._sender = sender
        self._pauses = pauses

    def performers(self) -> dict[str, Performer]:
        return {
            "tell": Performer(perform=self.tell, outcome=Told, argument=TellStep),
            "complete": Performer(perform=self.complete, outcome=Completed),
        }

    async def tell(self, ref: TellRef, step: TellStep, _run: Run) -> Told | Unknown:
        """Queue the step's messages, once; `sent` when one of them is."""
        group = effect_of("saga", ref.id, step.name)
        self._sender.hand_over(await self._db.write(lambda conn: self._queue(conn, ref, step.name, group)))
        self._sender.wake()
        for pause in (0.0, *self._pauses):
            await asyncio.sleep(pause)
            if (sent := await self._db.read(lambda conn: _outcome(conn, ref, group))) is not None:
                first = await self._db.write(lambda conn, sent=sent: _end(conn, ref, step.name, sent=sent))
                return Told(step=step.name, sent=first)
        return Unknown(reason="not sent yet")

    def _queue(self, conn: sa.Connection, ref: TellRef, step: str, group: str) -> list[Notification]:
        row = conn.execute(sa.select(sagas).where(_this(ref))).one()
        news = _news(row)
        routes = [route for route in news.routes if route.step == step]
        try:
            drafts = messages(conn, news, routes, lease_until=None, group_id=group)
        except InvalidEvent as nobody:  # a group that the event cannot name: the step reaches nobody, and has ended
            log.warning("saga.step_without_recipients", saga=ref.id, step=step, reason=str(nobody))
            drafts = []
        # Forward only: a step may be told again, by a driver that died or came late, after the story went on.
        first = conn.execute(sa.select(notifications.c.id).where(of_group(ref.tenant, group)).limit(1)).first() is None
        # Its own step too, when it is told at last: the first one stands there since the event came.
        earlier = sagas.c.current_step.in_(ref.steps[: ref.steps.index(step) + first])
        begun = {"current_step": step, "step_started_at": now(), "version": sagas.c.version + 1}
        conn.execute(sa.update(sagas).where(_this(ref), sagas.c.completed_at.is_(None), earlier).values(begun))
        return enqueue(conn, drafts, at=now())

    async def complete(self, ref: TellRef, _argument: None, _run: Run) -> Completed:
        ended = {"current_step": COMPLETED, "completed_at": now(), "due_at": None, "version": sagas.c.version + 1}
        done = sa.update(sagas).where(_this(ref), sagas.c.completed_at.is_(None)).values(ended)
        await self._db.write(lambda conn: conn.execute(done))
        return Completed()

    async def flush(self, ref: TellRef, records: list[StepRecord]) -> None:
        """Its steps are on record by themselves."""

    async def hand_over(self, ref: TellRef, reason: str) -> None:
        """To the durable driver. Killed between the two, the sweep does the second."""
        await self._postpone(ref, _HANDED_OVER)
        log.info("saga.handed_over", saga=ref.id, reason=reason)
        argument: dict[str, Any] = {"reference": ref.model_dump(mode="json"), "attempt": 0}
        try:
            await self._sidecar.start_workflow(WORKFLOW, instance_id(ref), argument)
        except SidecarDown:  # nobody has it now: the sweep's next run must find it
            await self._postpone(ref, timedelta(0))

    async def waiting(self, ref: TellRef, delay: timedelta) -> None:
        await self._postpone(ref, delay + _HANDED_OVER)

    async def _postpone(self, ref: TellRef, delay: timedelta) -> None:
        later = sa.update(sagas).where(_this(ref), sagas.c.completed_at.is_(None)).values(due_at=now() + delay)
        await self._db.write(lambda conn: conn.execute(later))

    # --- the sweep ---

    def job(self) -> Job:
        """Every 30 s by the scheduler; in-process at start, and again once a dead predecessor's leases are over."""
        at_start = (timedelta(0), _BEGUN + timedelta(seconds=0.5))
        return Job(name="PendingSagas", every=timedelta(seconds=30), work=self.take_over_due, at_start=at_start)

    async def take_over_due(self) -> None:
        due = await self._db.read(_due)
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(ref: TellRef) -> None:
            async with places:
                await self.hand_over(ref, "driver died")

        await asyncio.gather(*(one(ref) for ref in due))


def _this(ref: TellRef) -> sa.ColumnElement[bool]:
    return sa.and_(sagas.c.tenant == ref.tenant, sagas.c.correlation_id == ref.id)


def _due(conn: sa.Connection) -> Sequence[TellRef]:
    """The system scope: of every tenant."""
    query = sa.select(sagas).where(sagas.c.due_at <= now()).order_by(sagas.c.due_at).limit(_BATCH)
    return [_reference(row) for row in conn.execute(query)]


def _reference(row: sa.Row[Any]) -> TellRef:
    steps = tuple(dict.fromkeys(route.step for route in _news(row).routes if route.step))
    return TellRef(
        tenant=row.tenant,
        tenant_name=row.tenant_name,
        id=row.correlation_id,
        traceparent=row.traceparent,
        steps=steps,
    )


def _news(row: sa.Row[Any]) -> News:
    """The event again, as it came, along the route of that day."""
    route = EventRoute.model_validate_json(row.routes)
    event = CloudEvent(
        id=row.event_id,
        type=row.type,
        subject=row.subject_id,
        tenantid=row.tenant,
        tenantname=row.tenant_name,
        traceparent=row.traceparent,
        time=row.started_at,
        data=orjson.loads(row.data),
    )
    return read(event, route)


def _outcome(conn: sa.Connection, ref: TellRef, group: str) -> bool | None:
    """Whether the step reached anybody; None while that is open and there is time."""
    mine = of_group(ref.tenant, group)
    statuses = {Status(status) for status in conn.execute(sa.select(notifications.c.status).where(mine)).scalars()}
    if statuses & _REACHED:
        return True
    if statuses <= FINAL:
        return False
    began = conn.execute(sa.select(sagas.c.step_started_at).where(_this(ref))).scalar_one()
    return False if now() - began > _STEP_WITHIN else None


def _end(conn: sa.Connection, ref: TellRef, step: str, *, sent: bool) -> bool:
    """A step ends once: its first `sent`, whatever has become of its messages since."""
    row = conn.execute(sa.select(sagas.c.steps).where(_this(ref)).with_for_update()).one()
    steps: list[dict[str, Any]] = orjson.loads(row.steps)
    if known := [one for one in steps if one["step"] == step]:
        return bool(known[0]["sent"])
    steps.append({"step": step, "sent": sent, "endedAt": now().isoformat()})
    ended = {"steps": orjson.dumps(steps).decode(), "version": sagas.c.version + 1}
    conn.execute(sa.update(sagas).where(_this(ref)).values(ended))
    return sent
