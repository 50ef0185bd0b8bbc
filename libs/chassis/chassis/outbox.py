"""The transactional outbox: events are rows of the transaction they tell of, and one relay publishes them.

One relay is active per service (a lease), others stand by. It takes waiting rows in order, at most one per aggregate
in a bulk, publishes whole CloudEvents under the rows' own ids, and marks them. Killed between the two, it publishes
again: consumers know an event by its id. A broker that is down delays everything and loses nothing; an event that
alone is refused parks its aggregate for a while, with error and count, and the rest flows.
"""

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa
import structlog

from chassis.db import DATABASE_DOWN, Database, Timestamp
from chassis.events import Event
from chassis.ids import new_id, now
from chassis.leases import Leases, Turn
from chassis.problems import Unavailable
from chassis.retention import Expiry
from chassis.sidecar import Sidecar
from chassis.wakeups import Wakeup, poll_of

log = structlog.get_logger()

_BATCH = 100
_AGAIN = 0.5  # seconds, after a failure
_LINGER = 0.01  # what is committed meanwhile goes out together
_KEEP = timedelta(days=7)  # published rows stay for republishing
_MAX_PARKED = timedelta(seconds=30)  # short: a lone event that fails may only mean that the broker is down


def outbox_table(metadata: sa.MetaData) -> sa.Table:
    waiting = sa.text("published_at IS NULL")
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
        sa.Index("ix_outbox_published", "published_at"),
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
        self._publish_mark = (
            sa.update(table)
            .where(table.c.seq.in_(sa.bindparam("done", expanding=True)))
            .values(published_at=sa.bindparam("at"))
        )
        self.expiry = Expiry.of(table.c.published_at, _KEEP)

    def add(
        self, conn: sa.Connection, event: Event, *, tenant: str, aggregate_id: str, parent: str, tenant_name: str = ""
    ) -> None:
        """Add `event` to the caller's transaction; after its commit, call `wake`.

        `parent` is the traceparent of what caused it. A unit of work runs on another thread, where none is current.
        """
        row = {
            "event_id": new_id(),
            "tenant": tenant,
            "tenant_name": tenant_name,
            "aggregate_id": aggregate_id,
            "topic": event.topic,
            "type": event.type,
            "data": event.model_dump_json(by_alias=True),
            "traceparent": parent,
            "created_at": now(),
        }
        conn.execute(self._insert, row)

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
            conn.execute(self._publish_mark, {"done": done, "at": now()})
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
    return (
        sa.select(table)
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
