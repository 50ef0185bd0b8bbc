"""contracts/asyncapi.yaml: every topic, ours and those of other teams, as AsyncAPI 3.0. `contracts.py` writes it.

Brewline is the application that it describes: it sends on its own topics, and receives on those of others.
"""

from collections.abc import Iterable
from typing import Any

import yaml

from chassis.events import Event
from notification.incoming.foreign_events import ForeignEvent
from notification.incoming.routing_table import EventRoute, shipped

_ENVELOPE: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0, structured. An event is known by its source and id. Dapr adds members of its own.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "maxLength": 255},
        "source": {"type": "string", "maxLength": 255, "description": "Ours: the app-id."},
        "type": {"type": "string"},
        "subject": {"type": "string", "description": "Ours: the aggregate's id."},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string"},
        "traceparent": {"type": "string"},
        "tenantid": {"type": "string", "description": "Where it is left out: default."},
        "tenantname": {"type": "string"},
    },
}


def document(ours: Iterable[type[Event]], foreign: Iterable[type[ForeignEvent]]) -> str:
    ours, foreign = tuple(ours), tuple(foreign)
    known = {event.type for event in (*ours, *foreign)}
    told = [(event.topic, event.type, _described(event), _filed(event.type)) for event in (*ours, *foreign)]
    # Of these only what the shipped routes read is known; a route of a tenant's own may read more.
    told += [
        (route.topic, route.type, "Of another team; the fields that are read.", _read_by(route))
        for route in shipped().values()
        if route.type not in known
    ]
    ours_on = {event.topic for event in ours}
    topics = list(dict.fromkeys(topic for topic, *_ in told))
    whole = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Brewline events",
            "version": "1",
            "description": "Topics of the pub/sub component `pubsub`: what Brewline sends, and what it hears.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {topic: _channel(topic, [kind for on, kind, *_ in told if on == topic]) for topic in topics},
        "operations": dict(_operation(topic, sends=topic in ours_on) for topic in topics),
        "components": {
            "messages": {kind: _message(kind, described, data) for _, kind, described, data in told},
            "schemas": {"CloudEvent": _ENVELOPE},
        },
    }
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120)


def _described(event: type[Event | ForeignEvent]) -> str:
    return " ".join((event.__doc__ or "").split())


def _filed(kind: str) -> dict[str, Any]:
    return {"$ref": f"./events/{kind}.json"}


def _read_by(route: EventRoute) -> dict[str, Any]:
    contact = (
        {} if route.contact is None else route.contact.model_dump(include={"id", "name", "email", "phone", "locale"})
    )
    fields = [path for path in (route.subject_id, *contact.values()) if path]
    return {"type": "object", "properties": {field: {"type": "string"} for field in fields}}


def _channel(topic: str, kinds: list[str]) -> dict[str, Any]:
    messages = {kind: {"$ref": f"#/components/messages/{kind}"} for kind in kinds}
    return {"address": topic, "messages": messages}


def _operation(topic: str, *, sends: bool) -> tuple[str, dict[str, Any]]:
    verb, action = ("tell", "send") if sends else ("hear", "receive")
    return f"{verb}-{topic}", {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}


def _message(kind: str, described: str, data: dict[str, Any]) -> dict[str, Any]:
    own = {"required": ["data"], "properties": {"type": {"const": kind}, "data": data}}
    payload = {"allOf": [{"$ref": "#/components/schemas/CloudEvent"}, own]}
    return {"name": kind, "summary": described, "payload": payload}
