"""A service's OpenAPI document: FastAPI's, with what it can't know, and without what is not OpenAPI 3.1."""

import json
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute

from chassis import problems
from chassis.edge.auth import Access
from chassis.edge.routes import refused
from chassis.edge.rules import OF_DAPR, Book


class Service(FastAPI):
    def __init__(self, book: Book, **known: Any) -> None:
        self._book = book
        super().__init__(**known)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is not None:
            return self.openapi_schema
        for route in self.routes:
            if isinstance(route, APIRoute) and route.path.startswith(OF_DAPR):
                route.include_in_schema = False
        document = super().openapi()
        parts = document.setdefault("components", {})
        schema = problems.ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        nested = schema.pop("$defs")
        parts.setdefault("schemas", {}).update(ProblemDocument=schema, **nested)
        parts["securitySchemes"] = _SCHEMES
        reachable = {path: self._reachable(path, operations) for path, operations in document["paths"].items()}
        document["paths"] = {path: operations for path, operations in reachable.items() if operations}
        document["servers"] = [{"url": "/", "description": "the service that this document was read from"}]
        _to_3_1(document)
        return document

    def _reachable(self, path: str, operations: dict[str, Any]) -> dict[str, Any]:
        ruled = {method: self._book.rules.get(f"{method.upper()} {path}") for method in operations}
        for method, access in ruled.items():
            if access is not None:
                _describe_access(operations[method], access)
        return {method: operations[method] for method, access in ruled.items() if access is not None}


def _to_3_1(part: Any) -> None:
    """`itemSchema` came with 3.2. A `default` makes a member required in some generated clients: it becomes words."""
    match part:
        case dict():
            members = cast("dict[str, Any]", part)
            if (item := members.pop("itemSchema", None)) is not None:
                members |= {"schema": {"type": "string", "description": "a stream of events"}, "x-item-schema": item}
            if "type" in members or "$ref" in members or "anyOf" in members:
                _say_default(members)
            for name, member in members.items():
                if name != "examples":
                    _to_3_1(member)
        case list():
            for item in cast("list[Any]", part):
                _to_3_1(item)
        case _:
            pass


def _say_default(schema: dict[str, Any]) -> None:
    if "default" in schema and isinstance(schema.get("type", ""), str) and (value := schema.pop("default")) is not None:
        said = f"`{json.dumps(value)}` if left out."
        schema["description"] = f"{schema['description'].rstrip('.')}. {said}" if "description" in schema else said


_OPERATOR = ", operator-only"

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "sidecar": {"type": "apiKey", "in": "header", "name": "dapr-api-token", "description": "known to our sidecar only"},
}

_OF_A_TOKEN = {401: "unauthenticated", 429: "rate-limited", 503: "issuer-unavailable, rate-limiter-unavailable"}


def _describe_access(operation: dict[str, Any], access: Access) -> None:
    refusals: dict[int, str] = {}
    match access:
        case Access.PROBE:
            pass
        case Access.STATUS | Access.GUEST:
            operation["security"] = [{}, {"bearer": []}]
            refusals = _OF_A_TOKEN | {403: "tenant-missing"}
        case Access.SIDECAR:
            operation["security"] = [{"sidecar": []}]
            refusals = {401: "unauthenticated"}
        case Access.PUBLIC | Access.SIGNED:
            refusals = {429: "rate-limited"}
        case _:
            operation["security"] = [{"bearer": []}]
            others = _OPERATOR if access is Access.OPERATOR else ""
            refusals = _OF_A_TOKEN | {403: f"role-missing ({access.role}), tenant-missing{others}"}
    if "requestBody" in operation:
        refusals |= {408: "body-too-slow", 413: "body-too-large", 415: "unsupported-media-type"}
        if "application/json" in operation["requestBody"]["content"]:
            refusals[400] = "malformed-json"
    operation["x-access"] = access.name.lower()
    for status, response in refused(refusals).items():
        known = operation["responses"].setdefault(str(status), response)
        if known is not response:
            known["description"] += f"; {refusals[int(status)]}"
