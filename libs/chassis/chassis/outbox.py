"""The transactional outbox: events are rows of the transaction they tell of, and one relay publishes them.

One relay is active per service (a lease), others stand by. It takes waiting rows in order, at most one per aggregate
in a bulk, publishes whole CloudEvents under the rows' own ids, and marks them. Killed between the two, it publishes
again: consumers know an event by its id. A broker that is down delays everything and loses nothing; an event that
alone is refused parks its aggregate for a while, with error and count, and the rest flows.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa
import structlog

from chassis.db import DATABASE_DOWN, Database, Timestamp, among_in, as_list, insert_all
from chassis.events import Event
from chassis.ids import new_id, now
from chassis.leases import Leases, Turn
from chassis.problems import Unavailable
from chassis.retention import Expiry
from chassis.sidecar import Sidecar
from chassis.telemetry import meter
from chassis.wakeups import Wakeup, poll_of

log = structlog.get_logger()

_BATCH = 100
_AGAIN = 0.5  # seconds, after a failure
_LINGER = 0.01  # what is committed meanwhile goes out together
_KEEP = timedelta(days=7)  # published rows stay for republishing
_MAX_PARKED = timedelta(seconds=30)  # short: a lone event that fails may only mean that the broker is down

_depth = meter.create_gauge("outbox_waiting", description="Events that wait to be published")
_age = meter.create_gauge("outbox_oldest_seconds", unit="s", description="Age of the oldest of them")


def outbox_table(metadata: sa.MetaData) -> sa.Table:
    # Each to one question alone: with an index that knows both, what waits and what was told, a planner whose figures
    # are old reads a whole backlog for its first hundred.
    waiting = sa.text("published_at IS NULL")
    set_aside = sa.text("published_at IS NULL AND parked_until IS NOT NULL")
    told = sa.text("published_at IS NOT NULL")
    return sa.Table(
        "outbox",
        metadata,
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("tenant_name", sa.String(255), nullable=False, server_default=""),
        sa.Column("aggregate_id", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("published_at", Timestamp),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("parked_until", Timestamp),
        sa.Column("error", sa.String(255)),
        sa.Index("ix_outbox_waiting", "seq", sqlite_where=waiting, postgresql_where=waiting),
        sa.Index("ix_outbox_parked", "parked_until", sqlite_where=set_aside, postgresql_where=set_aside),
        sa.Index("ix_outbox_published", "published_at", sqlite_where=told, postgresql_where=told),
    )


class Outbox:
    """`patience`: seconds that an event may wait for others, where nobody waits for it."""

    def __init__(
        self, *, db: Database, table: sa.Table, leases: Leases, sidecar: Sidecar, pubsub: str, patience: float = 0.0
    ) -> None:
        self._db = db
        self._table = table
        self._turn = Turn(leases, "outbox-relay")
        self._sidecar = sidecar
        self._pubsub = pubsub
        self._wakeup = Wakeup(poll=poll_of(db), patience=patience)
        self._several = False
        # Built once: building a statement costs several times what running it does.
        self._insert = sa.insert(table)
        self._select = _first_waiting(table)
        done = among_in(db.url.get_backend_name(), table.c.seq, sa.bindparam("done", type_=sa.Text))
        self._publish_mark = sa.update(table).where(done).values(published_at=sa.bindparam("at"))
        waits = table.c.published_at.is_(None)
        self._waiting_figures = sa.select(sa.func.count(), sa.func.min(table.c.seq)).where(waits)
        self._first_at = sa.select(table.c.created_at).where(table.c.seq == sa.bindparam("first"))
        self.expiry = Expiry.of(table.c.published_at, _KEEP)

    def add(
        self, conn: sa.Connection, event: Event, *, tenant: str, aggregate_id: str, parent: str, tenant_name: str = ""
    ) -> None:
        """Add `event` to the caller's transaction; after its commit, call `wake`.

        `parent` is the traceparent of what caused it. A unit of work runs on another thread, where none is current.
        """
        self.add_all(conn, {aggregate_id: event}, tenant=tenant, parent=parent, tenant_name=tenant_name)

    def add_all(
        self, conn: sa.Connection, events: Mapping[str, Event], *, tenant: str, parent: str, tenant_name: str = ""
    ) -> None:
        """One of each aggregate, by its id: many at once cost little more than one."""
        at = now()
        rows = [
            {
                "event_id": new_id(),
                "tenant": tenant,
                "tenant_name": tenant_name,
                "aggregate_id": aggregate_id,
                "topic": event.topic,
                "type": event.type,
                "data": event.model_dump_json(by_alias=True),
                "traceparent": parent,
                "created_at": at,
            }
            for aggregate_id, event in events.items()
        ]
        if len(rows) == 1:
            conn.execute(self._insert, rows[0])
        else:
            insert_all(conn, self._table, rows)

    def figures(self, conn: sa.Connection) -> None:
        """For `chassis.figures`."""
        waiting, oldest = self._queue(conn)
        _depth.set(waiting)
        _age.set(oldest)

    async def waiting(self) -> tuple[int, float]:
        """How many events wait, and for how many seconds the oldest does."""
        return await self._db.read(self._queue)

    def _queue(self, conn: sa.Connection) -> tuple[int, float]:
        """The index of what waits tells it all."""
        waiting, first = conn.execute(self._waiting_figures).one()
        oldest = conn.execute(self._first_at, {"first": first}).scalar() if waiting else None
        return waiting, 0.0 if oldest is None else (now() - oldest).total_seconds()

    def wake(self) -> None:
        """A commit has just added something: publish it now instead of at the next poll."""
        self._wakeup.set()

    async def run(self) -> None:
        """The relay's loop, until cancelled."""
        try:
            await self._relay()
        finally:
            await self._turn.end()

    async def _relay(self) -> None:
        while True:
            self._wakeup.clear()
            try:
                if (self._db.exclusive or await self._turn.ours()) and await self._publish_waiting():
                    await asyncio.sleep(_LINGER)
                    continue
            except (*DATABASE_DOWN, Unavailable) as down:
                log.warning("outbox.waiting", reason=str(down), error=type(down).__name__)
                await asyncio.sleep(_AGAIN)
                continue
            except Exception:
                log.exception("outbox.failed")
                await asyncio.sleep(_AGAIN)
            await self._wakeup.sleep(several=self._several)

    async def _publish_waiting(self) -> bool:
        """Publish one round; True when there may be more."""
        rows = await self._db.read(self._waiting)
        by_topic: dict[str, list[sa.Row[Any]]] = defaultdict(list)
        for row in _one_per_aggregate(rows):
            by_topic[row.topic].append(row)
        self._several = len(rows) > 1
        for topic, chosen in by_topic.items():
            await self._publish(topic, chosen)
        # Whoever commits from here on wakes the relay; only what this round left behind is known to wait.
        return len(rows) == _BATCH or len(rows) > sum(map(len, by_topic.values()))

    async def _publish(self, topic: str, rows: list[sa.Row[Any]]) -> None:
        events = [self._envelope(row) for row in rows]
        failed = await self._sidecar.publish(self._pubsub, topic, events)
        if len(failed) == len(rows) > 1:
            raise Unavailable("broker")
        done = [row.seq for row in rows if row.event_id not in failed]
        bad = [(row, failed[row.event_id]) for row in rows if row.event_id in failed]
        await self._db.write(lambda conn: self._mark(conn, done, bad))

    def _envelope(self, row: sa.Row[Any]) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "id": row.event_id,
            "source": self._sidecar.source,
            "type": row.type,
            "subject": row.aggregate_id,
            "time": row.created_at.isoformat(),
            "datacontenttype": "application/json",
            "tenantid": row.tenant,
            **({"tenantname": row.tenant_name} if row.tenant_name else {}),
            # Both, or Dapr gives every event of a bulk the trace of the publishing call.
            "traceid": row.traceparent,
            "traceparent": row.traceparent,
            "data": orjson.loads(row.data),
        }

    def _waiting(self, conn: sa.Connection) -> list[sa.Row[Any]]:
        return list(conn.execute(self._select, {"at": now()}))

    def _mark(self, conn: sa.Connection, done: list[int], bad: list[tuple[sa.Row[Any], str]]) -> None:
        table = self._table
        if done:
            conn.execute(self._publish_mark, {"done": as_list(done), "at": now()})
        for row, error in bad:
            wait = min(timedelta(seconds=2**row.attempts), _MAX_PARKED) if row.attempts < 16 else _MAX_PARKED
            parked = {"attempts": row.attempts + 1, "parked_until": now() + wait, "error": error[:255]}
            conn.execute(sa.update(table).where(table.c.seq == row.seq).values(parked))
            log.error("outbox.parked", event_id=row.event_id, attempts=row.attempts + 1)


def _first_waiting(table: sa.Table) -> sa.Select[Any]:
    """The first waiting rows, and never one behind a parked row of its own aggregate."""
    parked = sa.select(table.c.aggregate_id).where(
        table.c.published_at.is_(None), table.c.parked_until > sa.bindparam("at", type_=Timestamp)
    )
    asked = [column for column in table.c if column.name not in {"published_at", "parked_until", "error"}]
    return (
        sa.select(*asked)
        .where(table.c.published_at.is_(None), table.c.aggregate_id.not_in(parked))
        .order_by(table.c.seq)
        .limit(_BATCH)
    )


def _one_per_aggregate(rows: list[sa.Row[Any]]) -> list[sa.Row[Any]]:
    """A bulk is unordered, so an aggregate's next event waits for the next round."""
    first: dict[str, sa.Row[Any]] = {}
    for row in rows:
        first.setdefault(row.aggregate_id, row)
    return list(first.values())
