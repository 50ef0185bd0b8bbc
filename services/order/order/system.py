"""The system scope: rows of every tenant. Named and kept apart, because what a request sees is never decided here."""

import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import now
from order.saga import OrderRef
from order.tables import orders


class SystemStore:
    """The processor's view: which orders of any tenant somebody must take over."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def due(self, limit: int) -> list[OrderRef]:
        """Orders whose driver's lease has run out or whose time has come, whatever their status."""
        query = (
            sa.select(orders.c.tenant, orders.c.tenant_name, orders.c.id, orders.c.traceparent)
            .where(sa.or_(orders.c.lease_until < now(), orders.c.due_at < now()))
            .order_by(orders.c.id)
            .limit(limit)
        )
        rows = await self._db.read(lambda conn: list(conn.execute(query)))
        return [
            OrderRef(tenant=row.tenant, tenant_name=row.tenant_name, id=row.id, traceparent=row.traceparent)
            for row in rows
        ]
