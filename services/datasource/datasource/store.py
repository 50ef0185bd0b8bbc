"""What a tenant's requests read. A row is shown while all its parents are there: until a portfolio's client has come,
and once it has gone, nobody sees the portfolio, nor its transactions."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from chassis.db import Database
from chassis.tenants import elsewhere
from datasource.domain import Entity, NotFound, OfOtherTenant
from datasource.tables import OF_ENTITY, clients, portfolios, securities, transactions


class Store:
    def __init__(self, db: Database, tenant: str) -> None:
        self._db = db
        self._tenant = tenant

    async def page(
        self, entity: Entity, filters: Mapping[sa.Column[Any], Any], *, before: str | None, limit: int
    ) -> list[sa.RowMapping]:
        """Newest first, after the id `before`. A filter whose value is None is none."""
        row_id = OF_ENTITY[entity].c.id
        query = self._shown(entity).where(*(column == value for column, value in filters.items() if value is not None))
        if before is not None:
            query = query.where(row_id < before)
        query = query.order_by(row_id.desc()).limit(limit)
        return [*await self._db.read(lambda conn: conn.execute(query).mappings().all())]

    async def get(self, entity: Entity, row_id: str) -> sa.RowMapping:
        """Raises NotFound, OfOtherTenant."""
        query = self._shown(entity).where(OF_ENTITY[entity].c.id == row_id)
        return await self._db.read(lambda conn: self._get(conn, query, entity, row_id))

    def _get(self, conn: sa.Connection, query: sa.Select[Any], entity: Entity, row_id: str) -> sa.RowMapping:
        if (row := conn.execute(query).mappings().one_or_none()) is None:
            if elsewhere(conn, OF_ENTITY[entity], self._tenant, id=row_id):
                raise OfOtherTenant(entity.type)
            raise NotFound(entity.type)
        return row

    def _shown(self, entity: Entity) -> sa.Select[Any]:
        return _SHOWN[entity].where(OF_ENTITY[entity].c.tenant == self._tenant)


def _parent(child: sa.Table, named: sa.Column[Any], parent: sa.Table) -> sa.ColumnElement[bool]:
    same_place = parent.c.tenant == child.c.tenant, parent.c.source == child.c.source
    return sa.and_(*same_place, parent.c.external_id == named, parent.c.deleted_at.is_(None))


_CLIENT = _parent(portfolios, portfolios.c.client_external_id, clients)
_PORTFOLIO = _parent(transactions, transactions.c.portfolio_external_id, portfolios)
_SECURITY = _parent(transactions, transactions.c.security_external_id, securities)
_NEEDS_NO_OTHER = transactions.c.security_external_id.is_(None) | securities.c.id.is_not(None)

_SHOWN: Mapping[Entity, sa.Select[Any]] = {
    Entity.CLIENTS: sa.select(clients).where(clients.c.deleted_at.is_(None)),
    Entity.SECURITIES: sa.select(securities).where(securities.c.deleted_at.is_(None)),
    Entity.PORTFOLIOS: sa.select(portfolios, clients.c.id.label("client_id"))
    .join(clients, _CLIENT)
    .where(portfolios.c.deleted_at.is_(None)),
    Entity.TRANSACTIONS: sa.select(
        transactions, portfolios.c.id.label("portfolio_id"), securities.c.id.label("security_id")
    )
    .join(portfolios, _PORTFOLIO)
    .join(clients, _CLIENT)
    .outerjoin(securities, _SECURITY)
    .where(transactions.c.deleted_at.is_(None), _NEEDS_NO_OTHER),
}
