"""One person's data, in the words that services have for each other, and their traces in rows that stay: things and
times, without whom they were for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import orjson
import sqlalchemy as sa
from pydantic import Field

from chassis.wire import RequestBody, Wire, example

ERASED = "erased"  # in the place of a person's id; nobody's

# What a JSON object says of the person whose id is in it.
PERSONAL = frozenset({"name", "email", "phone", "text", "recipientName"})


class PersonWanted(RequestBody, json_schema_extra=example(personId="c-1")):
    """What `POST /person-data` of a service is asked."""

    person_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]


class PersonHeld(Wire):
    """By kind, each a list of what its rows say."""

    held: dict[str, list[dict[str, Any]]]


def without(value: Any, person_id: str, personal: frozenset[str] = PERSONAL) -> Any:
    """A copy of JSON in which the person's id is `erased` wherever an id stands (`id`, `…Id`, in `…Ids`), and the
    object around it tells nothing personal. A word that is spelt like it, as a status may be, is none."""
    if isinstance(value, list):
        return [without(one, person_id, personal) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    members = cast("dict[str, Any]", value)
    theirs = any(one == person_id for name, one in members.items() if _is_id(name))
    told = {name: _told(name, one, person_id, personal, theirs=theirs) for name, one in members.items()}
    # Whoever commands a message calls it as they like: `welcome-c-1`.
    return told | {"eventId": ERASED} if theirs and person_id in str(members.get("eventId")) else told


def _told(name: str, value: Any, person_id: str, personal: frozenset[str], *, theirs: bool) -> Any:
    if theirs and name in personal and isinstance(value, str):
        return ""
    if _is_id(name) and value == person_id:
        return ERASED
    if name.endswith("Ids") and isinstance(value, list):
        return [ERASED if one == person_id else one for one in cast("list[Any]", value)]
    return without(value, person_id, personal)


def _is_id(name: str) -> bool:
    return name == "id" or name.endswith("Id")


def hash_of(tenant: str, person_id: str) -> str:
    """By which an erased person is known again where nothing else of them is kept: 64 hex digits."""
    return hashlib.sha256(f"{tenant}\x00{person_id}".encode()).hexdigest()


def mentions(column: sa.ColumnElement[str], text: str) -> sa.ColumnElement[bool]:
    """Whether the JSON in `column` has `text` as a whole string; SQLite finds other cases of its letters too."""
    return column.contains(orjson.dumps(text).decode(), autoescape=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """Rows of `which` that mention a person in the JSON of `column`: their primary keys; `grows` was `newest` in the
    table's newest row."""

    column: sa.Column[Any]
    which: sa.ColumnElement[bool]
    grows: sa.Column[Any]
    newest: Any
    keys: Sequence[tuple[Any, ...]]


def trace(
    conn: sa.Connection, column: sa.Column[Any], which: sa.ColumnElement[bool], person_id: str, *, grows: sa.Column[Any]
) -> Traces:
    """A walk through the table, which is not made in the transaction that erases. `grows` is a column of later rows'
    greater values, with an index."""
    # First: what is written from here on is found by it.
    newest = conn.execute(sa.select(sa.func.max(grows))).scalar()
    found = conn.execute(sa.select(*column.table.primary_key).where(which, mentions(column, person_id)))
    return Traces(column=column, which=which, grows=grows, newest=newest, keys=[tuple(row) for row in found])


def erase(
    conn: sa.Connection, traces: Traces, person_id: str, *, personal: frozenset[str] = PERSONAL, **values: Any
) -> None:
    """In the JSON of the rows that were found, and of those that have come since; they get `values` besides."""
    column, key = traces.column, list(traces.column.table.primary_key)
    since = sa.true() if traces.newest is None else traces.grows >= traces.newest
    found = [sa.and_(*(part == value for part, value in zip(key, keys, strict=True))) for keys in traces.keys]
    for some in (*found, since):
        query = sa.select(*key, column).where(some, traces.which, mentions(column, person_id))
        for row in conn.execute(query).mappings().all():
            before = orjson.loads(row[column])
            if (after := without(before, person_id, personal)) != before:
                this = [part == row[part] for part in key]
                told = {column.name: orjson.dumps(after).decode(), **values}
                conn.execute(sa.update(column.table).where(*this).values(told))
