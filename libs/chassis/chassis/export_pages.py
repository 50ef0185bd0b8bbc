"""Rows for the back office's exports: what `POST /export-page` of a service is asked, and how it answers. A page of a
tenant's rows by their ids, so that whoever has the last id of a page goes on behind it."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import sqlalchemy as sa
from fastapi import Response
from pydantic import AfterValidator, AwareDatetime, Field
from pydantic.alias_generators import to_camel

from chassis.db import Database
from chassis.ids import first_id
from chassis.sidecar import to_json
from chassis.wire import RequestBody, Wire

MOST_ROWS = 1000  # of a page
_SKEW = 2.0  # seconds: an id is made a moment before or after its row's `created_at`

Cell = str | int | None
S = TypeVar("S", bound=str)


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("out of the calendar") from None


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]


class ExportFilters(RequestBody, Generic[S]):
    """Which rows: made at or after `from`, before `to`, and in `status`; all that is left out is everything."""

    since: Annotated[Moment | None, Field(alias="from", description="inclusive")] = None
    until: Annotated[Moment | None, Field(alias="to", description="exclusive")] = None
    status: S | None = None


class ExportPageWanted(RequestBody, Generic[S]):
    """`cursor` is `next` of the page before. A service's own says which `kind` it has, and its statuses."""

    filters: ExportFilters[S] = Field(default_factory=ExportFilters[S])
    cursor: Annotated[str | None, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")] = None
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = MOST_ROWS


class Column(Wire):
    """A number may stand as a decimal string, whose digits are kept."""

    name: str
    kind: Literal["text", "number"] = "text"


class ExportPage(Wire):
    """Each of `items` is a row, a cell for each of `columns`. `columns` and `total` come with the first page only;
    `next` is null on the last one."""

    columns: Sequence[Column] | None
    items: Sequence[Sequence[Cell]]
    next: str | None
    total: int | None


class ExportColumn:
    """A column as it is shown: `source` itself, under its own name, unless another `name` or `cell` says otherwise.
    `cell` is given the row, with the sources of all columns."""

    def __init__(
        self,
        source: sa.Column[Any],
        *,
        name: str = "",
        number: bool = False,
        cell: Callable[[sa.Row[Any]], Cell] | None = None,
    ) -> None:
        self.source = source
        self.shown = Column(name=name or to_camel(source.name), kind="number" if number else "text")
        self.cell = cell or self._plain

    def _plain(self, row: sa.Row[Any]) -> Cell:
        value = getattr(row, self.source.name)
        return value.isoformat() if isinstance(value, datetime) else value


async def export_page(
    db: Database, table: sa.Table, wanted: ExportPageWanted[Any], *, tenant: str, columns: Sequence[ExportColumn]
) -> Response:
    """Of a table with `id` (UUIDv7), `tenant`, `status` and `created_at`. The rows are made on a thread of their own:
    others' requests do not wait for a thousand of them."""
    read = list(dict.fromkeys(column.source for column in columns))
    rows, total = await db.read(lambda conn: _read(conn, table, read, tenant, wanted))

    def page() -> bytes:
        following = rows[wanted.limit - 1].id if len(rows) > wanted.limit else None
        items = [[column.cell(row) for column in columns] for row in rows[: wanted.limit]]
        named = None if total is None else [column.shown.model_dump(by_alias=True) for column in columns]
        return to_json({"columns": named, "items": items, "next": following, "total": total})

    return Response(await asyncio.to_thread(page), media_type="application/json")


def _read(
    conn: sa.Connection, table: sa.Table, read: Sequence[sa.Column[Any]], tenant: str, wanted: ExportPageWanted[Any]
) -> tuple[Sequence[sa.Row[Any]], int | None]:
    c, conditions, first = table.c, _conditions(table, tenant, wanted.filters), wanted.cursor is None
    total = conn.scalar(sa.select(sa.func.count()).select_from(table).where(*conditions)) if first else None
    after = max(wanted.cursor or "", _id_at(wanted.filters.since, -_SKEW) or "")  # of two bounds SQLite takes one
    query = sa.select(*read).where(*conditions, c.id > after).order_by(c.id).limit(wanted.limit + 1)
    return conn.execute(query).fetchall(), total


def _conditions(table: sa.Table, tenant: str, filters: ExportFilters[Any]) -> list[sa.ColumnElement[bool]]:
    """An id begins with the time it was made: a range of time is also a range of the index."""
    c, conditions = table.c, [table.c.tenant == tenant]
    if filters.status is not None:
        conditions.append(c.status == filters.status)
    if filters.since is not None:
        conditions.append(c.created_at >= filters.since)
    if filters.until is not None:
        conditions += [c.created_at < filters.until, c.id < _id_at(filters.until, _SKEW)]
    return conditions


def _id_at(moment: datetime | None, skew: float) -> str | None:
    return None if moment is None else first_id(moment.timestamp() + skew)
