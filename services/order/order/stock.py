"""Stock, taken and returned inside the order's own transaction; never below zero."""

from collections.abc import Sequence

import sqlalchemy as sa

from chassis.db import upsert
from order.catalog import Catalog
from order.domain import OutOfStock
from order.tables import stock

_quantity = sa.bindparam("quantity", type_=sa.Integer)
_TAKE = (
    sa.update(stock)
    .where(
        stock.c.tenant == sa.bindparam("of_tenant"),
        stock.c.sku == sa.bindparam("of_sku"),
        stock.c.available >= _quantity,
    )
    .values(available=stock.c.available - _quantity)
)


def take_stock(conn: sa.Connection, tenant: str, wanted: Sequence[tuple[str, int]], catalog: Catalog) -> None:
    """Take every quantity or raise OutOfStock. A tenant's first order of a product brings its shipped first stock."""
    for sku, quantity in wanted:
        if _take(conn, tenant, sku, quantity):
            continue
        first = upsert(conn, stock).values(tenant=tenant, sku=sku, available=catalog.first_stock(sku))
        conn.execute(first.on_conflict_do_nothing())
        if not _take(conn, tenant, sku, quantity):
            raise OutOfStock(sku)


def return_stock(conn: sa.Connection, tenant: str, taken: Sequence[tuple[str, int]]) -> None:
    for sku, quantity in taken:
        line = (stock.c.tenant == tenant, stock.c.sku == sku)
        conn.execute(sa.update(stock).where(*line).values(available=stock.c.available + quantity))


def _take(conn: sa.Connection, tenant: str, sku: str, quantity: int) -> bool:
    return conn.execute(_TAKE, {"of_tenant": tenant, "of_sku": sku, "quantity": quantity}).rowcount == 1
