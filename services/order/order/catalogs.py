"""Every tenant's catalog, at hand for each order: it is read from the database once in an hour, and once more at every
replica when an admin has changed it."""

from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import TypeVar

import sqlalchemy as sa

from chassis.cache import Cache
from chassis.db import Database
from order.catalog import Catalog, OwnProducts, Shipped
from order.products import Products, own_products

T = TypeVar("T")

_CACHED = timedelta(hours=1)
_TENANTS = 1024  # whose catalogs are kept as they are used, and not only as they are stored


class Catalogs:
    def __init__(self, *, db: Database, cache: Cache, shipped: Shipped) -> None:
        self._db = db
        self._cache = cache
        self._shipped = shipped
        self._read = lru_cache(maxsize=_TENANTS)(self._parsed)

    async def of(self, tenant: str) -> Catalog:
        """As it was a moment ago: an order may still be priced by what another replica is just changing."""

        async def load() -> str:
            return await self._db.read(lambda conn: own_products(conn, tenant))

        return self._read(await self._cache.get_or_load(_cached_as(tenant), load, expires_in=_CACHED))

    async def change(self, tenant: str, work: Callable[[Products], T]) -> T:
        """One transaction over a tenant's products; from its end on this replica has what is new."""
        cached = _cached_as(tenant)

        def unit(conn: sa.Connection) -> T:
            made = work(Products(conn, tenant, self._shipped))
            self._cache.invalidate(conn, cached, tenant=tenant)
            return made

        made = await self._db.write(unit)
        self._cache.drop(cached)
        return made

    def _parsed(self, document: str) -> Catalog:
        return Catalog(self._shipped, OwnProducts.model_validate_json(document))


def _cached_as(tenant: str) -> str:
    return f"{tenant}:catalog"
