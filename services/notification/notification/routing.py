"""Which event is told to whom, by which channel and in which words: data.

An `EventRoute` stands for one (topic, event type). Those in shipped/routes.json hold for every tenant; a tenant's own
row for an event takes their place. Adding an event needs a row and a template, and for a new topic a Subscription.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache, reduce
from pathlib import Path
from typing import Annotated, Any, cast

import sqlalchemy as sa
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter

from chassis.cache import Cache
from chassis.db import Database, upsert
from chassis.events import CloudEvent, InvalidEvent, Wire
from chassis.ids import now
from notification import tables
from notification.domain import ChannelName, ConcurrencyConflict
from notification.phones import known_or_none

SHIPPED = Path(__file__).parent / "shipped" / "routes.json"

_ID = re.compile(r"[\x21-\x7e]{1,64}")  # as wide as its column; ids also stand in headers
_OWNER = re.compile(r"[^\x00]{1,255}")
_TYPE = re.compile(r"[\x21-\x7e]{1,128}")
_LONGEST = 1000
_LONGEST_ADDRESS = 320

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
    an API consumer typed; see contacts.py."""

    id: Path_
    name: Path_ | None = None
    email: Path_ | None = None
    phone: Path_ | None = None
    locale: Path_ | None = None
    trusted: bool = False


def _once(chain: tuple[ChannelName, ...]) -> tuple[ChannelName, ...]:
    if len(set(chain)) < len(chain):
        raise ValueError("a channel stands here twice")
    return chain


Chain = Annotated[tuple[ChannelName, ...], AfterValidator(_once)]


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
    return {(one.topic, one.type): one for one in EVENT_ROUTES.validate_python(json.loads(file.read_text()))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A recipient as an event or the contacts know them; empty where nothing is known."""

    id: str
    name: str = ""
    email: str = ""
    phone: str = ""
    locale: str = ""

    def address(self, channel: ChannelName) -> str:
        """By what the channel reaches them; empty where it can't."""
        match channel:
            case ChannelName.EMAIL | ChannelName.PUSH:  # the push provider knows customers by their e-mail
                return self.email
            case ChannelName.SMS:
                return self.phone
            case ChannelName.LIVE:
                return self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """An event, read along its route. `owner` is "" where it names none; `version` 0 where nothing is ordered."""

    tenant: str
    topic: str
    type: str
    event_id: str
    subject_id: str
    version: int
    owner: str
    correlation_id: str
    person: Person | None
    trusted: bool
    data: Mapping[str, Any]
    route: EventRoute
    routes: Sequence[Route]
    traceparent: str
    at: datetime


def read(event: CloudEvent, route: EventRoute) -> News:
    """Raises InvalidEvent, which says where but never what."""
    if not isinstance(event.data, dict):
        raise InvalidEvent("data: not an object")
    data = cast("Mapping[str, Any]", event.data)
    subject = _text(data, route.subject_id, _ID) if route.subject_id else _usable(event.subject)
    owner = _text(data, route.owner_id, _OWNER, needed=False) if route.owner_id else ""
    return News(
        tenant=event.tenantid,
        topic=route.topic,
        type=event.type,
        event_id=event.id,
        subject_id=subject,
        version=_version(data) if subject else 0,  # of what? Without a subject nothing is overtaken
        owner=owner,
        correlation_id=_text(data, route.correlation_id, _ID) if route.correlation_id else _short(event.id),
        person=_person(data, route.contact) if route.contact else None,
        trusted=route.contact is not None and route.contact.trusted,
        data=data,
        route=route,
        routes=[one for one in route.messages if all(_at(data, path) == value for path, value in one.when.items())],
        traceparent=event.traceparent[:64],
        at=_moment(event.time),
    )


def group_of(route: Route, data: Mapping[str, Any]) -> str:
    """The group's name with the event's values in it. Raises InvalidEvent where one is missing."""
    if route.group is None:
        raise AssertionError(route)
    name = re.sub(r"\{([^}]+)\}", lambda found: _text(data, found[1], _ID), route.group)
    if len(name) > 64:
        raise InvalidEvent("group: too long")
    return name


def context_of(route: Route, data: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**data, **route.set} if route.set else data


def _person(data: Mapping[str, Any], paths: ContactPaths) -> Person:
    email = _text(data, paths.email, None, needed=False)
    if len(email) > _LONGEST_ADDRESS:
        raise InvalidEvent(f"{paths.email}: too long")
    return Person(
        id=_text(data, paths.id, _ID),
        name=_text(data, paths.name, None, needed=False),
        email=email,
        phone=known_or_none(_text(data, paths.phone, None, needed=False)),
        locale=_text(data, paths.locale, None, needed=False)[:35],
    )


def _short(event_id: str) -> str:
    """As long as its column at most, and still nobody else's."""
    return event_id if len(event_id) <= 64 else hashlib.sha256(event_id.encode()).hexdigest()


def _usable(subject: str) -> str:
    """It stands in a header; one that can't is none."""
    return subject[:64] if _ID.fullmatch(subject[:64]) else ""


def _version(data: Mapping[str, Any]) -> int:
    version = data.get("version", 0)
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version < 2**31:
        raise InvalidEvent("version: not a count")
    return version


def _moment(time: datetime | None) -> datetime:
    """RFC 3339 demands a zone, but nobody loses an event for it: a time without one is UTC. One that is out of the
    calendar says as little as none."""
    if time is None:
        return now()
    try:
        return (time.replace(tzinfo=UTC) if time.tzinfo is None else time).astimezone(UTC)
    except OverflowError:
        return now()


def _text(data: Mapping[str, Any], path: str | None, shape: re.Pattern[str] | None, *, needed: bool = True) -> str:
    value = _at(data, path) if path else None
    if value is None and not needed:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # other services count their branches
    if not isinstance(value, str) or len(value) > _LONGEST or "\x00" in value:
        raise InvalidEvent(f"{path}: no text")
    if shape is not None and not shape.fullmatch(value):
        raise InvalidEvent(f"{path}: not usable")
    return value


def _at(data: Any, path: str) -> Any:
    """What stands at a dotted path of nested mappings, None where nothing does."""
    return reduce(_under, path.split("."), data)


def _under(value: Any, key: str) -> Any:
    return cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None


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
        mine = sa.select(tables.routes).where(tables.routes.c.tenant == self._tenant)
        own = {(row.topic, row.type): row for row in self._conn.execute(mine)}
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
            f"{prefix(tenant)}{topic}:{event_type}", lambda: self._own(tenant, topic, event_type)
        )
        return _parsed(document) if document else shipped().get((topic, event_type))

    async def _own(self, tenant: str, topic: str, event_type: str) -> str:
        own = await self._db.read(lambda conn: Routes(conn, tenant).own(topic, event_type))
        return own[0].model_dump_json(by_alias=True) if own else ""


def prefix(tenant: str) -> str:
    """Of the cache's keys: what a change of a tenant's routes invalidates."""
    return f"routes:{tenant}:"


@lru_cache(maxsize=1024)
def _parsed(document: str) -> EventRoute:
    return EventRoute.model_validate_json(document)
