"""An event, read along its route: whom it is for, what it tells of, and when."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Any, cast

from chassis.events import CloudEvent, InvalidEvent
from chassis.ids import now
from notification.incoming.routing_table import ContactPaths, EventRoute, Route
from notification.recipients.addresses import usable_email, usable_phone
from notification.recipients.contacts import Recipient
from notification.templates.locales import canonical

_ID = re.compile(r"[\x21-\x7e]{1,64}")  # as wide as its column; ids also stand in headers
_OWNER = re.compile(r"[^\x00]{1,255}")
_LONGEST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedEvent:
    """An event, read along its route. `owner` is "" where it names none; `version` 0 where nothing is ordered."""

    tenant: str
    tenant_name: str
    topic: str
    type: str
    source: str
    event_id: str
    subject_id: str
    version: int
    owner: str
    correlation_id: str
    recipient: Recipient | None
    trusted: bool
    data: Mapping[str, Any]
    route: EventRoute
    routes: Sequence[Route]
    traceparent: str
    at: datetime

    @property
    def known_by(self) -> tuple[str, ...]:
        """Its source and id, as against all other events; that of a saga from before sources were kept, its id."""
        return (self.source, self.event_id) if self.source else (self.event_id,)


def read(event: CloudEvent, route: EventRoute) -> RoutedEvent:
    """Raises InvalidEvent, which says where but never what."""
    if not isinstance(event.data, dict):
        raise InvalidEvent("data: not an object")
    data = cast("Mapping[str, Any]", event.data)
    subject = _text(data, route.subject_id, _ID) if route.subject_id else _usable(event.subject)
    owner = _text(data, route.owner_id, _OWNER, needed=False) if route.owner_id else ""
    return RoutedEvent(
        tenant=event.tenantid,
        tenant_name=event.tenantname,
        topic=route.topic,
        type=event.type,
        source=event.source,
        event_id=event.id,
        subject_id=subject,
        version=_version(data) if subject else 0,  # of what? Without a subject nothing is overtaken
        owner=owner,
        correlation_id=_text(data, route.correlation_id, _ID) if route.correlation_id else _short(event.id),
        recipient=_recipient(data, route.contact) if route.contact else None,
        trusted=route.contact is not None and route.contact.trusted,
        data=data,
        route=route,
        routes=[
            message
            for message in route.messages
            if all(_at(data, path) == value for path, value in message.when.items())
        ],
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


def _recipient(data: Mapping[str, Any], paths: ContactPaths) -> Recipient:
    return Recipient(
        id=_text(data, paths.id, _ID),
        name=_text(data, paths.name, None, needed=False),
        email=usable_email(_text(data, paths.email, None, needed=False)),
        phone=usable_phone(_text(data, paths.phone, None, needed=False)),
        locale=canonical(_text(data, paths.locale, None, needed=False)) or "",
    )


def _short(event_id: str) -> str:
    """As long as its column at most, and still nobody else's."""
    return event_id if len(event_id) <= 64 else hashlib.sha256(event_id.encode()).hexdigest()


def _usable(subject: str) -> str:
    """It stands in a header; one that can't is none."""
    return subject[:64] if _ID.fullmatch(subject[:64]) else ""


def _version(data: Mapping[str, Any]) -> int:
    version = _whole(data.get("version")) or 0
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version < 2**31:
        raise InvalidEvent("version: not a count")
    return version


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 1.0 is 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
    value = _whole(_at(data, path)) if path else None
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
