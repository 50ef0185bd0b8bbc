"""The settings: a tenant's own, and those that concern all. Each change is a version, kept for good with who made it,
and told to every service by an event and to our own replicas by the change feed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from backoffice.domain import ConcurrencyConflict, SettingNotFound, TooManySettings
from backoffice.events import SettingChanged
from backoffice.tables import setting_history, settings
from chassis.changes.feed import Changes
from chassis.db import Database, upsert
from chassis.edge.auth import Caller
from chassis.flags.memory import Flags, Setting, told
from chassis.flags.provider import provide
from chassis.ids import now
from chassis.outbox import Outbox
from chassis.telemetry import traceparent

_MOST = 1000  # settings of a tenant
_PAGE = 1000  # of what other services are told


@dataclass(frozen=True, kw_only=True)
class StoredSetting:
    tenant: str
    key: str
    value: Any
    is_enabled: bool
    version: int
    created_at: datetime
    last_modified: datetime
    modified_by: str


@dataclass(frozen=True, kw_only=True)
class Version:
    """`value` is None where it was deleted."""

    version: int
    value: Any
    is_enabled: bool
    modified_at: datetime
    modified_by: str


class SettingsStore:
    """`tenant` is the owner of what is read and written: chassis.flags.memory.owner."""

    def __init__(self, *, db: Database, outbox: Outbox, changes: Changes, flags: Flags) -> None:
        self._db = db
        self._outbox = outbox
        self._changes = changes
        self._flags = flags
        flags.follow(changes)

    async def load(self) -> None:
        """Everything into memory. Before the change feed begins."""
        for setting in await self._db.read(lambda conn: _told(conn, after=None, limit=None)):
            self._flags.put(setting)
        provide(self._flags)

    async def put(
        self, tenant: str, key: str, value: Any, *, is_enabled: bool, version: int | None, by: Caller
    ) -> StoredSetting:
        """`version` is the one that was read, 0 for none yet; None overwrites whatever there is.

        Raises ConcurrencyConflict and TooManySettings."""
        row = {"tenant": tenant, "key": key, "value": orjson.dumps(value).decode(), "is_enabled": is_enabled}

        def work(conn: sa.Connection) -> sa.Row[Any]:
            _require_room(conn, tenant, key)
            changed = conn.execute(_putting(conn, {**row, **_by(by)}, version)).one_or_none()
            if changed is None:
                raise ConcurrencyConflict(_current(conn, tenant, key))
            return changed

        return await self._change(work, by)

    async def delete(self, tenant: str, key: str, *, by: Caller) -> None:
        """Raises SettingNotFound."""
        gone = sa.update(settings).where(_is(tenant, key), settings.c.value.is_not(None)).returning(settings)

        def work(conn: sa.Connection) -> sa.Row[Any]:
            changed = conn.execute(gone.values(value=None, version=settings.c.version + 1, **_by(by))).one_or_none()
            if changed is None:
                raise SettingNotFound(key)
            return changed

        await self._change(work, by)

    async def find(self, tenant: str, key: str) -> StoredSetting | None:
        chosen = sa.select(settings).where(_is(tenant, key), settings.c.value.is_not(None))
        row = await self._db.read(lambda conn: conn.execute(chosen).one_or_none())
        return None if row is None else _stored(row)

    async def page(self, tenants: Sequence[str], *, prefix: str, after: str, limit: int) -> list[StoredSetting]:
        """By key: no key is a tenant's own and everybody's too."""
        c = settings.c
        chosen = sa.select(settings).where(c.tenant.in_(tenants), c.value.is_not(None), c.key > after)
        chosen = chosen.where(c.key.startswith(prefix, autoescape=True)).order_by(c.key).limit(limit)
        return [_stored(row) for row in await self._db.read(lambda conn: conn.execute(chosen).all())]

    async def history(self, tenant: str, key: str, *, before: int | None, limit: int) -> list[Version]:
        """The newest first."""
        c = setting_history.c
        chosen = sa.select(setting_history).where(c.tenant == tenant, c.key == key)
        if before is not None:
            chosen = chosen.where(c.version < before)
        chosen = chosen.order_by(c.version.desc()).limit(limit)
        return [_version(row) for row in await self._db.read(lambda conn: conn.execute(chosen).all())]

    async def snapshot(self, after: tuple[str, str] | None) -> tuple[list[Setting], tuple[str, str] | None]:
        """A page of what every tenant has set, and where the next one begins; deleted ones too, for their versions."""
        found = await self._db.read(lambda conn: _told(conn, after=after, limit=_PAGE + 1))
        following = (found[_PAGE - 1].tenant, found[_PAGE - 1].key) if len(found) > _PAGE else None
        return found[:_PAGE], following

    async def _change(self, work: Any, by: Caller) -> StoredSetting:
        parent = traceparent()

        def unit(conn: sa.Connection) -> sa.Row[Any]:
            row = work(conn)
            self._record(conn, row, by, parent)
            return row

        row = await self._db.write(unit)
        self._flags.put(_setting(row))
        self._outbox.wake()
        self._changes.wake()
        return _stored(row)

    def _record(self, conn: sa.Connection, row: sa.Row[Any], by: Caller, parent: str) -> None:
        version = {
            name: getattr(row, name) for name in ("tenant", "key", "version", "value", "is_enabled", "modified_by")
        }
        conn.execute(sa.insert(setting_history).values(**version, modified_at=row.last_modified))
        setting = _setting(row)
        event = SettingChanged(**setting._asdict())
        self._outbox.add(conn, event, tenant=by.tenant, tenant_name=by.tenant_name, aggregate_id=row.key, parent=parent)
        self._changes.add_many(conn, [told(setting)])


def _is(tenant: str, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(settings.c.tenant == tenant, settings.c.key == key)


def _by(caller: Caller) -> dict[str, Any]:
    return {"last_modified": now(), "modified_by": caller.subject}


def _putting(conn: sa.Connection, row: dict[str, Any], version: int | None) -> Any:
    """A deleted one is none, but its versions go on: what was told of it is never newer than what is told now."""
    c = settings.c
    changed = {name: row[name] for name in ("value", "is_enabled", "last_modified", "modified_by")}
    changed["version"] = c.version + 1
    if version:
        there = sa.and_(_is(row["tenant"], row["key"]), c.value.is_not(None), c.version == version)
        return sa.update(settings).where(there).values(changed).returning(settings)
    changed["created_at"] = sa.case((c.value.is_(None), row["last_modified"]), else_=c.created_at)
    adding = upsert(conn, settings).values(**row, version=1, created_at=row["last_modified"])
    none_yet = c.value.is_(None) if version == 0 else None
    return adding.on_conflict_do_update(index_elements=["tenant", "key"], set_=changed, where=none_yet).returning(
        settings
    )


def _current(conn: sa.Connection, tenant: str, key: str) -> int:
    found = conn.execute(sa.select(settings.c.version).where(_is(tenant, key), settings.c.value.is_not(None)))
    return found.scalar_one_or_none() or 0


def _require_room(conn: sa.Connection, tenant: str, key: str) -> None:
    others = sa.select(sa.func.count()).where(
        settings.c.tenant == tenant, settings.c.key != key, settings.c.value.is_not(None)
    )
    if conn.execute(others).scalar_one() >= _MOST:
        raise TooManySettings(_MOST)


def _told(conn: sa.Connection, *, after: tuple[str, str] | None, limit: int | None) -> list[Setting]:
    c = settings.c
    chosen = sa.select(settings).order_by(c.tenant, c.key).limit(limit)
    if after is not None:
        chosen = chosen.where(sa.tuple_(c.tenant, c.key) > sa.tuple_(*map(sa.literal, after)))
    return [_setting(row) for row in conn.execute(chosen)]


def _setting(row: sa.Row[Any]) -> Setting:
    """As it counts: a disabled one is passed over."""
    value = orjson.loads(row.value) if row.value is not None and row.is_enabled else None
    return Setting(row.tenant, row.key, row.version, value)


def _stored(row: sa.Row[Any]) -> StoredSetting:
    return StoredSetting(
        tenant=row.tenant,
        key=row.key,
        value=_value(row),
        is_enabled=row.is_enabled,
        version=row.version,
        created_at=row.created_at,
        last_modified=row.last_modified,
        modified_by=row.modified_by,
    )


def _version(row: sa.Row[Any]) -> Version:
    return Version(
        version=row.version,
        value=_value(row),
        is_enabled=row.is_enabled,
        modified_at=row.modified_at,
        modified_by=row.modified_by,
    )


def _value(row: sa.Row[Any]) -> Any:
    return None if row.value is None else orjson.loads(row.value)
