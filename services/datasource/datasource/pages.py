"""A page of a source's list becomes rows: what is new, what has really changed, what is as it was, what can't be taken,
and how far the run has come, all in one transaction."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from chassis.outbox import Outbox
from datasource import quarantine
from datasource.domain import Counts, Entity, SourceFailed
from datasource.erasures import erased_among, take_turn
from datasource.mapping import Invalid, Record, transform
from datasource.quarantine import Rejected
from datasource.rows import Rows
from datasource.runs import Run, raise_watermark

_IN_ONE_GO = 25  # items, of which each is some ten microseconds that nobody else has


@dataclass(frozen=True, kw_only=True, slots=True)
class Sorted:
    """A page's items, by their ids."""

    good: Mapping[str, Record]
    bad: Mapping[str, Rejected]

    def without(self, ids: Collection[str]) -> "Sorted":
        return Sorted(
            good={name: record for name, record in self.good.items() if name not in ids},
            bad={name: rejected for name, rejected in self.bad.items() if name not in ids},
        )


async def sort(entity: Entity, items: Iterable[Any]) -> Sorted:
    """Of two with one id the later holds. Raises SourceFailed where they are not in the order of their changes: by that
    order alone a watermark says what has been seen."""
    good: dict[str, Record] = {}
    bad: dict[str, Rejected] = {}
    before: datetime | None = None
    for number, item in enumerate(items):
        if number % _IN_ONE_GO == 0:
            await asyncio.sleep(0)
        try:
            record = transform(entity, item)
        except Invalid as refused:
            rejected = Rejected.of(item, str(refused))
            bad[rejected.item] = rejected
            good.pop(rejected.item, None)
            continue
        if before is not None and record.updated_at < before:
            raise SourceFailed("The source's rows are not in the order of their changes.")
        before = record.updated_at
        good[record.external_id] = record
        bad.pop(record.external_id, None)
    return Sorted(good=good, bad=bad)


def write(conn: sa.Connection, run: Run, page: Sorted, *, cursor: str | None, outbox: Outbox, parent: str) -> None:
    """`cursor` is where a run that is killed goes on. Raises Lost."""
    # First of all: on PostgreSQL whoever takes the run over waits here for our end.
    run.advance(conn, Counts(), cursor=cursor)
    take_turn(conn, run.log.tenant, run.log.entity)
    erased = erased_among(conn, run.log.tenant, run.log.entity, {*page.good, *page.bad})
    taken = page.without(erased) if erased else page
    quarantine.release(conn, run.key, taken.good)
    rows = rows_of(conn, run, outbox, parent)
    put = rows.put(taken.good.values())
    # Who was erased is there, and changes nothing here.
    counts = {"unchanged": put.unchanged + len(erased), "errors": len(taken.bad)}
    run.advance(conn, put.model_copy(update=counts))
    rows.touch(taken.bad)  # what can't be taken has been seen too
    quarantine.keep(conn, run.key, run.log.id, taken.bad.values())
    if page.good:
        raise_watermark(conn, run, max(record.updated_at for record in page.good.values()))


def delete_unseen(conn: sa.Connection, run: Run, *, outbox: Outbox, parent: str) -> bool:
    """Tombstones for some of what a full run has not seen; False when nothing is left. Raises Lost."""
    take_turn(conn, run.log.tenant, run.log.entity)
    count = rows_of(conn, run, outbox, parent).delete_unseen()
    run.advance(conn, Counts(deleted=count))
    if not count:
        quarantine.release_unseen(conn, run.key, run.log.id)
    return count > 0


def rows_of(conn: sa.Connection, run: Run, outbox: Outbox, parent: str) -> Rows:
    return Rows(conn=conn, **run.key, seen_in=run.log.id, outbox=outbox, parent=parent)
