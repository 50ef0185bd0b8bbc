"""Items that could not be taken: kept as they came, with the reason, the newest word of each, until a better one comes
or somebody replays or deletes them."""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from chassis.db import Database, among, upsert
from chassis.ids import new_id, now
from chassis.outbox import Outbox
from chassis.tenants import elsewhere
from datasource.domain import Entity, NotFound, OfOtherTenant, StillInvalid
from datasource.erasures import take_turn
from datasource.mapping import Invalid, transform
from datasource.rows import Rows
from datasource.runs import Key
from datasource.tables import quarantine

c = quarantine.c
_WHAT = "item"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """`item` is its external id, or a hash of it where it has none."""

    item: str
    reason: str
    payload: str

    @classmethod
    def of(cls, item: Any, reason: str) -> "Rejected":
        payload = orjson.dumps(item).decode()
        match item:
            case {"id": str(row_id)} if 0 < len(row_id) <= 64 and "\x00" not in row_id:
                name = row_id
            case _:
                name = hashlib.sha256(payload.encode()).hexdigest()
        return cls(item=name, reason=reason[:255], payload=payload)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    id: str
    entity: Entity
    item: str
    reason: str
    payload: Any
    created_at: datetime
    seen_at: datetime


def keep(conn: sa.Connection, key: Key, run_id: str, rejected: Iterable[Rejected]) -> None:
    """Again where it is here already: what it says now is what counts."""
    rows = [
        {"id": new_id(), **key, "item": one.item, "reason": one.reason, "payload": one.payload, "run_id": run_id}
        | {"created_at": now(), "seen_at": now()}
        for one in rejected
    ]
    if not rows:
        return
    insert = upsert(conn, quarantine)
    news = {name: insert.excluded[name] for name in ("reason", "payload", "run_id", "seen_at")}
    conn.execute(insert.on_conflict_do_update(index_elements=[c.tenant, c.source, c.entity, c.item], set_=news), rows)


def release(conn: sa.Connection, key: Key, items: Collection[str]) -> None:
    """The source has a word of them that can be taken."""
    if conn.execute(sa.select(c.id).where(*_all(key)).limit(1)).first() is not None:
        conn.execute(sa.delete(quarantine).where(*_all(key), among(conn, c.item, items)))


def release_unseen(conn: sa.Connection, key: Key, run_id: str) -> None:
    """A full run has not seen them: they are there no more."""
    conn.execute(sa.delete(quarantine).where(*_all(key), c.run_id != run_id))


def _all(key: Key) -> tuple[sa.ColumnElement[bool], ...]:
    return c.tenant == key["tenant"], c.source == key["source"], c.entity == key["entity"]


class Quarantine:
    """A tenant's."""

    def __init__(self, db: Database, outbox: Outbox, tenant: str) -> None:
        self._db = db
        self._outbox = outbox
        self._tenant = tenant

    async def page(self, *, entity: Entity | None, before: str | None, limit: int) -> list[Kept]:
        """Newest first."""
        query = sa.select(quarantine).where(c.tenant == self._tenant)
        if entity is not None:
            query = query.where(c.entity == entity)
        if before is not None:
            query = query.where(c.id < before)
        query = query.order_by(c.id.desc()).limit(limit)
        return [_kept(row) for row in await self._db.read(lambda conn: conn.execute(query).all())]

    async def replay(self, item_id: str, *, parent: str) -> None:
        """Takes it now, by the mapping that holds now. Raises StillInvalid, NotFound, OfOtherTenant."""
        await self._db.write(lambda conn: self._replay(conn, item_id, parent))
        self._outbox.wake()

    async def delete(self, item_id: str) -> None:
        """Raises NotFound, OfOtherTenant."""
        await self._db.write(lambda conn: self._taken_out(conn, item_id))

    def _replay(self, conn: sa.Connection, item_id: str, parent: str) -> None:
        take_turn(conn, self._tenant)
        row = self._taken_out(conn, item_id)
        entity = Entity(row.entity)
        try:
            record = transform(entity, orjson.loads(row.payload))
        except Invalid as refused:
            raise StillInvalid(str(refused)) from None
        rows = Rows(
            conn=conn,
            tenant=row.tenant,
            source=row.source,
            entity=entity,
            seen_in=row.run_id,  # a full run that has passed it by has seen it there
            outbox=self._outbox,
            parent=parent,
        )
        rows.put([record])

    def _taken_out(self, conn: sa.Connection, item_id: str) -> sa.Row[Any]:
        """Whoever comes second finds none."""
        gone = sa.delete(quarantine).where(c.id == item_id, c.tenant == self._tenant).returning(quarantine)
        if (row := conn.execute(gone).one_or_none()) is None:
            if elsewhere(conn, quarantine, self._tenant, id=item_id):
                raise OfOtherTenant(_WHAT)
            raise NotFound(_WHAT)
        return row


def _kept(row: sa.Row[Any]) -> Kept:
    return Kept(
        id=row.id,
        entity=Entity(row.entity),
        item=row.item,
        reason=row.reason,
        payload=orjson.loads(row.payload),
        created_at=row.created_at,
        seen_at=row.seen_at,
    )
