"""One owner at a time among replicas: a row with a name, an owner and an end."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import sqlalchemy as sa

from chassis.db import DATABASE_DOWN, Database, Timestamp, upsert
from chassis.ids import new_id, now

_TRY_AGAIN = 1.0  # seconds; how often a stand-by asks
_HAND_OVER = 0.5


def leases_table(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "leases",
        metadata,
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("held_until", Timestamp, nullable=False),
    )


class Leases:
    """This process's leases. A dead owner's lease expires; a living one renews it well before."""

    def __init__(self, db: Database, table: sa.Table) -> None:
        self._db = db
        self._table = table
        self._owner = new_id()

    async def hold(self, name: str, *, seconds: float = 5) -> bool:
        """Take the lease or renew it; False while somebody else holds it."""
        return await self._db.write(lambda conn: self.take(conn, name, seconds=seconds))

    async def release(self, name: str) -> None:
        await self._db.write(lambda conn: self.free(conn, name))

    def free(self, conn: sa.Connection, name: str) -> None:
        """Release it in a transaction that does more."""
        mine = sa.and_(self._table.c.name == name, self._table.c.owner == self._owner)
        conn.execute(sa.delete(self._table).where(mine))

    def take(self, conn: sa.Connection, name: str, *, seconds: float) -> bool:
        """Hold it in a transaction that does more."""
        table = self._table
        row = {"owner": self._owner, "held_until": now() + timedelta(seconds=seconds)}
        taken = (
            upsert(conn, table)
            .values(name=name, **row)
            .on_conflict_do_update(
                index_elements=[table.c.name],
                set_=row,
                where=sa.or_(table.c.owner == self._owner, table.c.held_until < now()),
            )
        )
        return conn.execute(taken).rowcount == 1


class Turn:
    """A lease that a loop holds for as long as it lives, with every look at it; others stand by."""

    def __init__(self, leases: Leases, name: str, *, seconds: float = 5) -> None:
        self._leases = leases
        self._name = name
        self._seconds = seconds
        self._held_until = self._try_at = 0.0

    @property
    def held(self) -> bool:
        """As far as is known without asking."""
        return self._held_until > asyncio.get_running_loop().time()

    async def ours(self) -> bool:
        """Whether it is this process's turn; takes or renews the lease where that is due."""
        at = asyncio.get_running_loop().time()
        if self._held_until - at < self._seconds / 2 and at >= self._try_at:
            self._try_at = at + _TRY_AGAIN
            # From before the row is written: never longer than the row says.
            until = at + self._seconds
            self._held_until = until if await self._leases.hold(self._name, seconds=self._seconds) else 0.0
        return self.held

    async def end(self) -> None:
        """Another replica need not wait for the lease to end."""
        if self._held_until:
            self._held_until = 0.0
            with suppress(*DATABASE_DOWN, TimeoutError):
                async with asyncio.timeout(_HAND_OVER):
                    await self._leases.release(self._name)
