"""An entity's rows of one tenant and source: written together, told of only where they have really changed."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from chassis.db import among, insert_all, take_turns
from chassis.ids import new_id, now
from chassis.outbox import Outbox
from datasource.domain import Counts, Entity
from datasource.events import CustomerChanged, customer_changed
from datasource.mapping import Record
from datasource.tables import OF_ENTITY

DELETED_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Rows:
    """`seen_in` is the run by which they are seen; `parent` the traceparent of whatever they come from."""

    conn: sa.Connection
    tenant: str
    source: str
    entity: Entity
    seen_in: str
    outbox: Outbox
    parent: str

    def put(self, records: Collection[Record]) -> Counts:
        """Inserts what is new, changes what has changed, and lets `last_sync_at` of all others move."""
        # A page and a replay may bring the same row.
        take_turns(self.conn, [f"{self.tenant}:{self.source}:{self.entity}"])
        known = self._known([record.external_id for record in records])
        at = now()
        new: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        same: list[str] = []
        for record in records:
            if (row := known.get(record.external_id)) is None:
                new.append(self._new(record, at))
            elif row.fingerprint != record.fingerprint or row.deleted_at is not None:
                changed.append(self._changed(record, row, at))
            else:
                same.append(record.external_id)
        if new:
            insert_all(self.conn, self._table, new)
        if changed:
            self.conn.execute(sa.update(self._table).where(self._table.c.id == sa.bindparam("row_id")), changed)
        self.touch(same)
        self._tell((*new, *changed))
        return Counts(inserted=len(new), updated=len(changed), unchanged=len(same))

    def touch(self, external_ids: Collection[str]) -> None:
        """They were seen, whatever they were like."""
        if external_ids:
            seen = sa.update(self._table).where(*self._ours, among(self.conn, self._table.c.external_id, external_ids))
            self.conn.execute(seen.values(last_sync_at=now(), seen_in=self.seen_in))

    def delete_unseen(self) -> int:
        """Tombstones for some of those that this run has not seen: how many."""
        c = self._table.c
        unseen = sa.select(self._table).where(*self._ours, c.deleted_at.is_(None), c.seen_in != self.seen_in)
        rows = [dict(row) for row in self.conn.execute(unseen.limit(DELETED_AT_ONCE)).mappings()]
        if rows:
            gone = {"deleted_at": now(), "updated_at": now(), "version": c.version + 1}
            ids = [row["id"] for row in rows]
            self.conn.execute(sa.update(self._table).where(among(self.conn, c.id, ids)).values(gone))
            self._tell([row | {"version": row["version"] + 1} for row in rows], deleted=True)
        return len(rows)

    @property
    def _table(self) -> sa.Table:
        return OF_ENTITY[self.entity]

    @property
    def _ours(self) -> tuple[sa.ColumnElement[bool], ...]:
        return self._table.c.tenant == self.tenant, self._table.c.source == self.source

    def _known(self, external_ids: list[str]) -> Mapping[str, Any]:
        c = self._table.c
        query = sa.select(c.external_id, c.id, c.fingerprint, c.version, c.deleted_at)
        found = self.conn.execute(query.where(*self._ours, among(self.conn, c.external_id, external_ids)))
        return {row.external_id: row for row in found}

    def _new(self, record: Record, at: datetime) -> dict[str, Any]:
        own = {"id": new_id(), "tenant": self.tenant, "source": self.source, "created_at": at}
        return own | self._said(record, at) | {"version": 1}

    def _changed(self, record: Record, row: sa.Row[Any], at: datetime) -> dict[str, Any]:
        return {"row_id": row.id, **self._said(record, at), "version": row.version + 1}

    def _said(self, record: Record, at: datetime) -> dict[str, Any]:
        seen = {"updated_at": at, "last_sync_at": at, "seen_in": self.seen_in, "deleted_at": None}
        return {"external_id": record.external_id, "fingerprint": record.fingerprint, **record.values, **seen}

    def _tell(self, rows: Iterable[Mapping[str, Any]], *, deleted: bool = False) -> None:
        if self.entity is not Entity.CLIENTS:
            return
        events: dict[str, CustomerChanged] = {
            row["external_id"]: customer_changed(row, version=row["version"], deleted=deleted) for row in rows
        }
        if events:
            self.outbox.add_all(self.conn, events, tenant=self.tenant, parent=self.parent)
