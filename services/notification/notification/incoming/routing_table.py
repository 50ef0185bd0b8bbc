"""Which event is told to whom, by which channel and in which words: data.

An `EventRoute` stands for one (topic, event type). Those in shipped/routes.json hold for every tenant; a tenant's own
row for an event takes their place. Adding an event needs a row and a template, and for a new topic a Subscription.
"""

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter

from chassis.cache import Cache
from chassis.db import Database, upsert
from chassis.ids import now
from chassis.wire import Wire
from notification import tables
from notification.domain import Chain, ChannelName, ConcurrencyConflict

SHIPPED = Path(__file__).parents[1] / "shipped" / "routes.json"
_CACHED = timedelta(hours=1)
_TYPE = re.compile(r"[\x21-\x7e]{1,128}")
Path_ = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", max_length=128)]
Group = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^{}\s]*(\{[A-Za-z0-9_.]+\}[^{}\s]*)*$")
]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
Step = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]{0,63}$")]


class _Data(Wire):
    """Unknown fields are refused: a misspelt one would silently route nothing."""

    model_config = ConfigDict(extra="forbid")


class ContactPaths(_Data):
    """Where in the event's data the recipient stands. `trusted`: the sender knows its customers, as against data that
    an API consumer typed; see recipients.contacts."""

    id: Path_
    name: Path_ | None = None
    email: Path_ | None = None
    phone: Path_ | None = None
    locale: Path_ | None = None
    trusted: bool = False


def _writable(value: Any) -> Any:
    """JSON as parsed may hold half a surrogate pair, which can't be written again."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise ValueError("holds a text that can't be kept") from None
    return value


class Route(_Data):
    """One message. `when` are paths and the value each must have. Its recipient is the event's contact, or with
    `group` everybody in a group: `branch:{branchId}`. `chain`: the channels that take over, in their order. The
    context is the event's data and the constants in `set`. Those with a `step` are told one after the other, as a
    saga.
    """

    channel: ChannelName
    category: Name
    template: Name
    chain: Chain = ()
    when: dict[Path_, Annotated[str | int | bool, AfterValidator(_writable)]] = Field(
        default_factory=dict[str, str | int | bool]
    )
    group: Group | None = None
    set: dict[Name, Annotated[str, AfterValidator(_writable)]] = Field(default_factory=dict[str, str])
    critical: bool = False
    latest_only: bool = False
    step: Step | None = None


class EventRoute(_Data):
    """`subject_id` and `owner_id` are paths: what the event tells of, and who may see the messages besides staff."""

    topic: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.-]{0,63}$")]
    type: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
    subject_id: Path_ | None = None
    owner_id: Path_ | None = None
    correlation_id: Path_ | None = None
    contact: ContactPaths | None = None
    messages: Annotated[tuple[Route, ...], Field(max_length=32)] = ()

    @property
    def in_turn(self) -> bool:
        return any(route.step for route in self.messages)


EVENT_ROUTES = TypeAdapter(tuple[EventRoute, ...])


@cache
def shipped(file: Path = SHIPPED) -> Mapping[tuple[str, str], EventRoute]:
    return {(route.topic, route.type): route for route in EVENT_ROUTES.validate_python(json.loads(file.read_text()))}


# --- a tenant's own rows ---
class Routes:
    """A tenant's own routes, beside those that ship."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def own(self, topic: str, event_type: str) -> tuple[EventRoute, int] | None:
        """With the version of its row."""
        row = self._conn.execute(sa.select(tables.routes).where(self._this(topic, event_type))).one_or_none()
        return (EventRoute.model_validate_json(row.document), row.version) if row else None

    def all(self) -> list[tuple[EventRoute, int]]:
        """Every event's route as it holds for the tenant; version 0 is the shipped one."""
        query = sa.select(tables.routes).where(tables.routes.c.tenant == self._tenant)
        own = {(row.topic, row.type): row for row in self._conn.execute(query)}
        known = {key: (route, 0) for key, route in shipped().items()}
        known |= {key: (EventRoute.model_validate_json(row.document), row.version) for key, row in own.items()}
        return [known[key] for key in sorted(known)]

    def put(self, route: EventRoute, version: int) -> int:
        """The row's new version. Raises ConcurrencyConflict unless `version` is the present one (0: none)."""
        table = tables.routes
        document = {"document": route.model_dump_json(by_alias=True), "updated_at": now(), "version": version + 1}
        if version == 0:
            row = {"tenant": self._tenant, "topic": route.topic, "type": route.type, **document}
            done = self._conn.execute(upsert(self._conn, table).values(row).on_conflict_do_nothing())
        else:
            same = sa.and_(self._this(route.topic, route.type), table.c.version == version)
            done = self._conn.execute(sa.update(table).where(same).values(document))
        if done.rowcount != 1:
            raise ConcurrencyConflict(self._version(route.topic, route.type))
        return version + 1

    def drop(self, topic: str, event_type: str, version: int) -> None:
        """Back to what ships. Raises ConcurrencyConflict as `put`."""
        same = sa.and_(self._this(topic, event_type), tables.routes.c.version == version)
        if self._conn.execute(sa.delete(tables.routes).where(same)).rowcount != 1:
            raise ConcurrencyConflict(self._version(topic, event_type))

    def _version(self, topic: str, event_type: str) -> int:
        own = self.own(topic, event_type)
        return own[1] if own else 0

    def _this(self, topic: str, event_type: str) -> sa.ColumnElement[bool]:
        c = tables.routes.c
        return sa.and_(c.tenant == self._tenant, c.topic == topic, c.type == event_type)


class RouteTable:
    """Which route an event takes: asked for every event, so it stands in the cache."""

    def __init__(self, *, db: Database, cache: Cache) -> None:
        self._db = db
        self._cache = cache

    async def find(self, tenant: str, topic: str, event_type: str) -> EventRoute | None:
        """The tenant's own, else the shipped one."""
        if not _TYPE.fullmatch(event_type):
            return None
        document = await self._cache.get_or_load(
            f"{prefix(tenant)}{topic}:{event_type}", lambda: self._own(tenant, topic, event_type), expires_in=_CACHED
        )
        return _parsed(document) if document else shipped().get((topic, event_type))

    async def _own(self, tenant: str, topic: str, event_type: str) -> str:
        own = await self._db.read(lambda conn: Routes(conn, tenant).own(topic, event_type))
        return own[0].model_dump_json(by_alias=True) if own else ""


def prefix(tenant: str) -> str:
    """Of the cache's keys: what a change of a tenant's routes invalidates."""
    return f"{tenant}:routes:"


@lru_cache(maxsize=1024)
def _parsed(document: str) -> EventRoute:
    return EventRoute.model_validate_json(document)
