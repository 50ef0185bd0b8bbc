"""A tenant's own templates, by version.

A version is never changed: revising adds one, publishing moves one into the place of another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from chassis.db import upsert
from chassis.ids import now
from chassis.language_tags import without_extensions
from notification.domain import ConcurrencyConflict, UnknownTemplate
from notification.tables import templates
from notification.templates.locales import canonical
from notification.templates.shipped import Source, samples, shipped

NAME = r"^[A-Za-z][A-Za-z0-9-]{0,63}$"  # of a category, and of a template
SHIPPED_VERSION = 0


class TemplateStatus(StrEnum):
    """Of the versions of one locale at most one is published; what was before is retired. `shipped` is not a row."""

    DRAFT = "draft"
    PUBLISHED = "published"
    RETIRED = "retired"
    SHIPPED = "shipped"


class Key(NamedTuple):
    """One template in one language."""

    category: str
    name: str
    locale: str

    def __str__(self) -> str:
        return "/".join(self)


class Position(NamedTuple):
    """Where in the list."""

    category: str
    name: str
    locale: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFilter:
    """What to list; None is everything."""

    category: str | None = None
    name: str | None = None
    status: TemplateStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A version without its words. One that ships has no author and no times."""

    category: str
    name: str
    locale: str
    version: int
    status: TemplateStatus
    author: str
    created_at: datetime | None
    published_at: datetime | None

    @property
    def position(self) -> Position:
        return Position(self.category, self.name, self.locale, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """`sample` is a context that everything in `source` is proven with before it is published."""

    head: Head
    source: Source
    sample: Mapping[str, Any]


class Templates:
    """A tenant's templates; reads know those that ship as well."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    # --- writing ---

    def create(self, key: Key, source: Source, sample: Mapping[str, Any], *, author: str) -> Template:
        """Version 1, a draft. Raises ConcurrencyConflict where there is a version already."""
        return self.revise(key, source, sample, version=0, author=author)

    def revise(self, key: Key, source: Source, sample: Mapping[str, Any], *, version: int, author: str) -> Template:
        """A new draft on top of `version`, 0 where there is none of the tenant's yet. Raises ConcurrencyConflict when
        that isn't the newest."""
        if (newest := self._newest(key)) != version:
            raise ConcurrencyConflict(newest)
        row = {
            "tenant": self._tenant,
            **key._asdict(),
            "version": version + 1,
            "status": TemplateStatus.DRAFT,
            "source": orjson.dumps(asdict(source)).decode(),
            "sample": orjson.dumps(sample).decode(),
            "author": author,
            "created_at": now(),
        }
        added = upsert(self._conn, templates).values(row).on_conflict_do_nothing()
        if self._conn.execute(added).rowcount == 0:  # somebody was quicker by this very moment
            raise ConcurrencyConflict(self._newest(key))
        return self.get(key, version + 1)

    def publish(self, key: Key, version: int) -> Template:
        """Sends use it from now on; the one before is retired. Raises UnknownTemplate. Whoever calls this has proven
        the version, and has the catalog's invalidated in the same transaction."""
        of_key = self._of_key(key)
        # Locked, all of them: of two who publish at once the second retires what the first has published.
        query = sa.select(templates.c.version, templates.c.status).where(of_key).order_by(templates.c.version)
        standing = {row.version: row.status for row in self._conn.execute(query.with_for_update())}
        if version not in standing:
            raise UnknownTemplate(f"{key} in version {version}")
        if standing[version] != TemplateStatus.PUBLISHED:
            retired = sa.update(templates).where(of_key, templates.c.status == TemplateStatus.PUBLISHED)
            self._conn.execute(retired.values(status=TemplateStatus.RETIRED))
            published = sa.update(templates).where(of_key, templates.c.version == version)
            self._conn.execute(published.values(status=TemplateStatus.PUBLISHED, published_at=now()))
        return self.get(key, version)

    # --- reading ---

    def get(self, key: Key, version: int | None = None) -> Template:
        """None is the newest, draft or not; the one that ships is version 0. Raises UnknownTemplate."""
        query = sa.select(templates).where(self._of_key(key)).order_by(templates.c.version.desc()).limit(1)
        if version is not None:
            query = query.where(templates.c.version == version)
        if (row := self._conn.execute(query).one_or_none()) is not None:
            return Template(head=_head(row), source=Source(**orjson.loads(row.source)), sample=orjson.loads(row.sample))
        if version in {None, SHIPPED_VERSION} and (source := _shipped_source(key)) is not None:
            return Template(head=_shipped_head(key), source=source, sample=samples()[key.category, key.name])
        raise UnknownTemplate(str(key) if version is None else f"{key} in version {version}")

    def page(self, filters: TemplateFilter, *, after: Position | None, limit: int) -> list[Head]:
        """By category, name, locale and version, strictly after a position."""
        shipped_heads = [head for head in _shipped_heads() if _matches(head, filters, after)]
        order = self._order()
        query = sa.select(*_HEAD).where(templates.c.tenant == self._tenant).order_by(*order).limit(limit)
        columns = {
            templates.c.category: filters.category,
            templates.c.name: filters.name,
            templates.c.status: filters.status,
        }
        query = query.where(*(column == value for column, value in columns.items() if value is not None))
        if after is not None:
            query = query.where(sa.tuple_(*order) > sa.tuple_(*after))
        own = [_head(row) for row in self._conn.execute(query)]
        return sorted([*own, *shipped_heads], key=lambda head: head.position)[:limit]

    def versions(self, key: Key, *, before: int | None, limit: int) -> list[Head]:
        """Newest first, strictly older than `before`; the one that ships is the last."""
        query = sa.select(*_HEAD).where(self._of_key(key)).order_by(templates.c.version.desc()).limit(limit)
        if before is not None:
            query = query.where(templates.c.version < before)
        heads = [_head(row) for row in self._conn.execute(query)]
        if before != SHIPPED_VERSION and _shipped_source(key) is not None:
            heads.append(_shipped_head(key))
        return heads[:limit]

    def _newest(self, key: Key) -> int:
        query = sa.select(sa.func.max(templates.c.version)).where(self._of_key(key))
        return self._conn.execute(query).scalar_one() or 0

    def _of_key(self, key: Key) -> sa.ColumnElement[bool]:
        return sa.and_(
            templates.c.tenant == self._tenant,
            templates.c.category == key.category,
            templates.c.name == key.name,
            templates.c.locale == key.locale,
        )

    def _order(self) -> list[sa.ColumnElement[Any]]:
        """As Python orders them, whatever language the database was made for."""
        names: list[sa.ColumnElement[Any]] = [templates.c.category, templates.c.name, templates.c.locale]
        if self._conn.dialect.name != "sqlite":
            names = [sa.collate(column, "C") for column in names]
        return [*names, templates.c.version]


_HEAD = [column for column in templates.c if column.name not in {"tenant", "source", "sample"}]


def _head(row: sa.Row[Any]) -> Head:
    values: dict[str, Any] = {column.name: getattr(row, column.name) for column in _HEAD}
    values["status"] = TemplateStatus(row.status)
    return Head(**values)


def _shipped_source(key: Key) -> Source | None:
    return shipped().get((key.category, key.name), {}).get(key.locale)


def _shipped_head(key: Key) -> Head:
    values = key._asdict()
    return Head(
        **values, version=SHIPPED_VERSION, status=TemplateStatus.SHIPPED, author="", created_at=None, published_at=None
    )


@cache
def _shipped_heads() -> Sequence[Head]:
    return [_shipped_head(Key(*name, locale)) for name, locales in shipped().items() for locale in locales]


def _matches(head: Head, filters: TemplateFilter, after: Position | None) -> bool:
    pairs = ((filters.category, head.category), (filters.name, head.name), (filters.status, head.status))
    return all(asked in {None, has} for asked, has in pairs) and (after is None or head.position > after)


def tag_of(locale: str) -> str | None:
    """The tag that a template in `locale` is kept under: pt-BR for pt_BR. None for what is no locale in all its parts:
    a template for a pt-XX that doesn't exist would be one for all who speak pt."""
    tag = canonical(locale)
    return tag if tag is not None and tag.count("-") >= without_extensions(locale).count("-") else None
