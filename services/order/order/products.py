"""A tenant's own products. A shipped one becomes the tenant's own, as version 0, before anything is done to it: so
every change is one conditional update."""

from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from chassis.db import upsert
from chassis.ids import now
from order.catalog import OwnProducts, Product, Shipped, Variation
from order.domain import ConcurrencyConflict, ProductExists, ProductNotFound
from order.tables import products

_variations = TypeAdapter(list[Variation])
_is_sold = products.c.deleted_at.is_(None)


class Products:
    """Within a transaction."""

    def __init__(self, conn: sa.Connection, tenant: str, shipped: Shipped) -> None:
        self._conn = conn
        self._tenant = tenant
        self._shipped = shipped

    def get(self, sku: str) -> Product:
        """Raises ProductNotFound, for one that was deleted too."""
        row = self._conn.execute(sa.select(products).where(*self._key(sku))).one_or_none()
        product = self._shipped.products.get(sku) if row is None else to_product(row)
        if product is None or (row is not None and row.deleted_at is not None):
            raise ProductNotFound
        return product

    def create(self, product: Product, *, by: str) -> Product:
        """Anew where it was deleted. Raises ProductExists."""
        self._adopt(product.sku)
        fresh = self._row(product, by) | {"version": 1}
        again = {**fresh, "version": products.c.version + 1, "deleted_at": None}
        statement = upsert(self._conn, products).values(fresh)
        statement = statement.on_conflict_do_update(
            index_elements=["tenant", "sku"], set_=again, where=products.c.deleted_at.is_not(None)
        )
        if (row := self._conn.execute(statement.returning(products)).one_or_none()) is None:
            raise ProductExists(product.sku)
        return to_product(row)

    def replace(self, product: Product, *, by: str) -> Product:
        """`product.version` is the one that was read. Raises ProductNotFound or ConcurrencyConflict."""
        self._adopt(product.sku)
        values = self._row(product, by) | {"version": product.version + 1}
        read = products.c.version == product.version
        statement = sa.update(products).where(*self._key(product.sku), _is_sold, read).values(values)
        if (row := self._conn.execute(statement.returning(products)).one_or_none()) is None:
            raise ConcurrencyConflict(self.get(product.sku).version)
        return to_product(row)

    def delete(self, sku: str, *, by: str) -> None:
        """Once it is deleted, deleting it is no error. Raises ProductNotFound where there never was one."""
        self._adopt(sku)
        values = {"deleted_at": now(), "version": products.c.version + 1, "changed_by": by, "changed_at": now()}
        self._conn.execute(sa.update(products).where(*self._key(sku), _is_sold).values(values))
        if self._conn.execute(sa.select(products.c.sku).where(*self._key(sku))).one_or_none() is None:
            raise ProductNotFound

    def _adopt(self, sku: str) -> None:
        if (product := self._shipped.products.get(sku)) is not None:
            row = self._row(product, "")
            self._conn.execute(upsert(self._conn, products).values(row).on_conflict_do_nothing())

    def _key(self, sku: str) -> tuple[sa.ColumnElement[bool], ...]:
        return products.c.tenant == self._tenant, products.c.sku == sku

    def _row(self, product: Product, by: str) -> dict[str, Any]:
        return {
            "tenant": self._tenant,
            "sku": product.sku,
            "name": product.name,
            "featured": product.featured,
            "sort_order": product.sort_order,
            "version": product.version,
            "variations": _variations.dump_json(product.variations, by_alias=True).decode(),
            "changed_by": by,
            "changed_at": now(),
        }


def to_product(row: sa.Row[Any]) -> Product:
    return Product(
        sku=row.sku,
        name=row.name,
        featured=row.featured,
        sort_order=row.sort_order,
        version=row.version,
        variations=_variations.validate_json(row.variations),
    )


def own_products(conn: sa.Connection, tenant: str) -> str:
    """A tenant's `OwnProducts`, as the cache keeps them."""
    rows = conn.execute(sa.select(products).where(products.c.tenant == tenant)).all()
    sold = [row for row in rows if row.deleted_at is None]
    gone = [row.sku for row in rows if row.deleted_at is not None]
    own = OwnProducts(products=[to_product(row) for row in sold], deleted=frozenset(gone))
    return own.model_dump_json(by_alias=True)
