"""One owner at a time among replicas: a row with a name, an owner and an end."""

from datetime import timedelta

import sqlalchemy as sa

from chassis.db import Database, Timestamp, upsert
from chassis.ids import new_id, now


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
        return await self._db.write(lambda conn: self._hold(conn, name, seconds))

    async def release(self, name: str) -> None:
        table = self._table
        mine = sa.and_(table.c.name == name, table.c.owner == self._owner)
        await self._db.write(lambda conn: conn.execute(sa.delete(table).where(mine)))

    def _hold(self, conn: sa.Connection, name: str, seconds: float) -> bool:
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
