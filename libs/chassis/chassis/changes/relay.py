"""The one replica that gives the change feed its positions. On SQLite the only process writes them with the rows."""

import sqlalchemy as sa

from chassis.db import Database
from chassis.leases import Leases, Turn
from chassis.wakeups import notification

CHANNEL, ADDED, PLACED = "changes", "", "placed"

_BATCH = 1000  # positions given by one statement


class Relay:
    """Whoever has the lease."""

    def __init__(self, *, db: Database, table: sa.Table, leases: Leases) -> None:
        self._db = db
        self._turn = Turn(leases, "changes-relay")
        self._place = _next_positions(table)
        self._alone = False

    @property
    def on_duty(self) -> bool:
        """On PostgreSQL, as far as is known."""
        return self._turn.held

    async def work(self) -> bool:
        """If it is our turn, give positions to what waits.

        True when more may wait. Raises IntegrityError, with nothing done, when another relay was quicker.
        """
        if self._alone or not (self._db.exclusive or await self._turn.ours()):
            return False
        more = await self._db.write(self._place_waiting) == _BATCH
        self._alone = self._db.exclusive and not more  # what an earlier version left without
        return more

    async def end(self) -> None:
        await self._turn.end()

    def _place_waiting(self, conn: sa.Connection) -> int:
        placed = conn.execute(self._place).rowcount
        if placed and not self._db.exclusive:
            conn.execute(sa.select(notification(CHANNEL, PLACED)))
        return placed


def next_position(table: sa.Table) -> sa.ScalarSelect[int]:
    """Of one row that is being written, where nobody else writes."""
    return sa.select(sa.func.coalesce(sa.func.max(table.c.position), 0) + 1).scalar_subquery()


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
