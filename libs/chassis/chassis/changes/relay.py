"""The one replica that gives the change feed its positions."""

import asyncio
from datetime import timedelta

import sqlalchemy as sa

from chassis.db import Database, Timestamp
from chassis.ids import now
from chassis.leases import Leases, Turn
from chassis.wakeups import notification

CHANNEL, ADDED, PLACED = "changes", "", "placed"

_BATCH = 1000  # positions given, or old rows deleted, by one statement
_KEEP = timedelta(days=7)
_CLEAN_EVERY = 3600.0


class Relay:
    """On SQLite the only process, else whoever has the lease."""

    def __init__(self, *, db: Database, table: sa.Table, leases: Leases) -> None:
        self._db = db
        self._turn = Turn(leases, "changes-relay")
        self._place = _next_positions(table)
        self._delete = _oldest(table)
        self._clean_at = 0.0

    @property
    def on_duty(self) -> bool:
        """On PostgreSQL, as far as is known."""
        return self._turn.held

    async def work(self) -> bool:
        """If it is our turn, give positions to what waits, and once in an hour throw out what is old.

        True when more may wait. Raises IntegrityError, with nothing done, when another relay was quicker.
        """
        if not (self._db.exclusive or await self._turn.ours()):
            return False
        placed = await self._db.write(self._place_waiting)
        clock = asyncio.get_running_loop().time
        if placed < _BATCH and clock() >= self._clean_at:
            deleted = await self._db.write(self._delete_oldest)
            self._clean_at = 0.0 if deleted == _BATCH else clock() + _CLEAN_EVERY
        return placed == _BATCH

    async def end(self) -> None:
        await self._turn.end()

    def _place_waiting(self, conn: sa.Connection) -> int:
        placed = conn.execute(self._place).rowcount
        if placed and not self._db.exclusive:
            conn.execute(sa.select(notification(CHANNEL, PLACED)))
        return placed

    def _delete_oldest(self, conn: sa.Connection) -> int:
        return conn.execute(self._delete, {"before": now() - _KEEP}).rowcount


def _next_positions(table: sa.Table) -> sa.Update:
    """Positions for the first waiting rows, from the newest one on, which is therefore never deleted.

    Two relays at once (one was paused past its lease) both want the next position: the second waits for the first,
    then finds the row taken, or breaks the unique constraint. So what commits first is what comes first.
    """
    newest = sa.select(sa.func.coalesce(sa.func.max(table.c.position), 0)).scalar_subquery()
    number = sa.func.row_number().over(order_by=table.c.seq)
    waiting = (
        sa.select(table.c.seq, (newest + number).label("position"))
        .where(table.c.position.is_(None))
        .order_by(table.c.seq)
        .limit(_BATCH)
        .subquery("waiting")
    )
    return (
        sa.update(table)
        .where(table.c.seq == waiting.c.seq, table.c.position.is_(None))
        .values(position=waiting.c.position)
    )


def _oldest(table: sa.Table) -> sa.Delete:
    """The first rows, as far as they are old; never the newest one."""
    first = sa.select(table.c.position).where(table.c.position.is_not(None)).order_by(table.c.position).limit(_BATCH)
    newest = sa.select(sa.func.max(table.c.position)).scalar_subquery()
    return sa.delete(table).where(
        table.c.position.in_(first),
        table.c.position < newest,
        table.c.created_at < sa.bindparam("before", type_=Timestamp),
    )
