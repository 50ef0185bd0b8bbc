"""What is sent: the published templates of a tenant, over those that ship."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from chassis.cache import Cache
from chassis.db import Database
from notification.domain import PARTS, ChannelName
from notification.tables import templates
from notification.templates.locales import fallbacks
from notification.templates.shipped import Source, shipped
from notification.templates.versions import SHIPPED_VERSION, Key, TemplateStatus

# --- what is sent ---
_CACHED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class FoundTemplate:
    """`locale` is the template's, which may be less particular than what was asked for; `version` 0 ships."""

    source: Source
    locale: str
    version: int


_Published = Mapping[str, Mapping[str, Any]]  # by locale: {version, source}


class Catalog:
    """What is sent: for each locale of the fallback's chain the tenant's published template, else the one that ships.

    A tenant's locales of one template are one cached value, so that a send asks no database.
    """

    def __init__(self, db: Database, cache: Cache) -> None:
        self._db = db
        self._cache = cache

    async def find(self, tenant: str, category: str, name: str, locale: str) -> FoundTemplate | None:
        own = await self._published(tenant, category, name)
        by_locale = shipped().get((category, name), {})
        for tag in fallbacks(locale):
            if (published := own.get(tag)) is not None:
                return FoundTemplate(Source(**published["source"]), tag, published["version"])
            if (source := by_locale.get(tag)) is not None:
                return FoundTemplate(source, tag, SHIPPED_VERSION)
        return None

    async def knows(self, tenant: str, category: str, name: str) -> bool:
        """Whether there is something to send, in whatever language."""
        return (category, name) in shipped() or bool(await self._published(tenant, category, name))

    def invalidate(self, conn: sa.Connection, tenant: str, key: Key) -> None:
        """In the transaction that publishes: from its commit on, every replica reads anew. After it, call `drop`."""
        self._cache.invalidate(conn, _cached_as(tenant, key.category, key.name), tenant=tenant)

    def drop(self, tenant: str, key: Key) -> None:
        """The next send of this process has what is committed now."""
        self._cache.drop(_cached_as(tenant, key.category, key.name))

    async def _published(self, tenant: str, category: str, name: str) -> _Published:
        async def load() -> _Published:
            return await self._db.read(lambda conn: _published(conn, tenant, category, name))

        return await self._cache.get_or_load(_cached_as(tenant, category, name), load, expires_in=_CACHED)


def _cached_as(tenant: str, category: str, name: str) -> str:
    return f"{tenant}:templates:{category}:{name}"


def _published(conn: sa.Connection, tenant: str, category: str, name: str) -> _Published:
    query = sa.select(templates.c.locale, templates.c.version, templates.c.source).where(
        templates.c.tenant == tenant,
        templates.c.category == category,
        templates.c.name == name,
        templates.c.status == TemplateStatus.PUBLISHED,
    )
    return {row.locale: {"version": row.version, "source": orjson.loads(row.source)} for row in conn.execute(query)}


def first_wordless(
    conn: sa.Connection, tenant: str, category: str, name: str, channels: Sequence[ChannelName]
) -> ChannelName | None:
    """The first of `channels` for which a template that is sent has no words in any of its languages."""
    table = templates
    same = sa.and_(table.c.tenant == tenant, table.c.category == category, table.c.name == name)
    query = sa.select(table.c.locale, table.c.source).where(same, table.c.status == TemplateStatus.PUBLISHED)
    own = {row.locale: Source(**orjson.loads(row.source)) for row in conn.execute(query)}
    sources = {**shipped().get((category, name), {}), **own}.values()
    sayable = {
        channel for source in sources for channel, parts in PARTS.items() if any(getattr(source, p) for p in parts)
    }
    return next((channel for channel in channels if channel not in sayable), None)
