"""A resource's routes, and what OpenAPI says of their refusals."""

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, get_type_hints

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.params import Body
from fastapi.routing import APIRoute
from opentelemetry import trace
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Stands for a slash that came as %2F, which separates nothing. Unicode keeps it for a program's own use.
SLASH = "\ufdd0"


class _Segment(StringConvertor):
    def convert(self, value: str) -> str:
        return value.replace(SLASH, "/")


register_url_convertor("str", _Segment())

_PROBLEM_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}

PROBLEM_RESPONSE: dict[str, Any] = {"description": "A problem document (RFC 9457)", "content": _PROBLEM_CONTENT}

_RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}


class Routes(APIRouter):
    """Made with its module, and taken over by every app as it is. `include_router` would make each route anew for each
    app, when it is first asked for: milliseconds a route, and one more look-up for every request."""

    def __init__(self, *, responses: Mapping[int | str, dict[str, Any]] | None = None, **known: Any) -> None:
        responses = {"default": PROBLEM_RESPONSE, **(responses or {})}
        super().__init__(responses=responses, generate_unique_id_function=operation_id, **known)

    def add_to(self, app: FastAPI) -> None:
        """Behind what the app has already, and tried after it."""
        app.router.routes.extend(self.routes)


class Direct:
    """Calls an endpoint without FastAPI, which takes longer to find and call one than most of them do: one that takes
    no more than the request, parts of its path, headers and a JSON body, and that answers a response. Whatever is not
    as it should be FastAPI looks at, and refuses in its own words.

    `rule` in the scope is the route that the edge has found. What an endpoint raises is the edge's.
    """

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (route := self._direct.get(scope.get("rule", ""))) is None:
            await self._app(scope, receive, send)
            return
        if route.param_convertors:
            scope.update(route.matches(scope)[1])
        if (span := trace.get_current_span()).is_recording():
            span.update_name(scope["rule"])
            span.set_attribute("http.route", route.path)
        request = Request(scope, receive, send)
        try:
            known = await _arguments(route.dependant, request)
        except (ValueError, RecursionError):
            await self._app(scope, _again(await request.body(), receive), send)
            return
        response: Response = await route.endpoint(request=request, **known)
        await response(scope, receive, send)

    @cached_property
    def _direct(self) -> Mapping[str, APIRoute]:
        """Of all routes that there are by the first request."""
        return {
            f"{method} {route.path}": route
            for route in self._routes
            if isinstance(route, APIRoute) and _is_plain(route)
            for method in route.methods or ()
        }


def _is_plain(route: APIRoute) -> bool:
    takes = route.dependant
    others = [
        *takes.query_params,
        *takes.cookie_params,
        *takes.dependencies,
        *route.dependencies,
        *takes.body_params[1:],
    ]
    return (
        inspect.iscoroutinefunction(route.endpoint)
        and get_type_hints(route.endpoint).get("return") is Response
        and takes.request_param_name == "request"
        and not any(others)
        and all(type(field.field_info) is Body and not field.field_info.embed for field in takes.body_params)
    )


async def _arguments(takes: Dependant, request: Request) -> dict[str, Any]:
    """Raises ValueError or RecursionError where anything is not as it should be. The body comes first, as in FastAPI:
    nobody is answered while it is still coming."""
    body = json.loads(await request.body()) if takes.body_params and _is_json(request) else None
    known = {field.name: _valid(field, request.path_params[field.alias]) for field in takes.path_params}
    for field in takes.header_params:
        match request.headers.getlist(field.alias):
            case [value]:
                known[field.name] = _valid(field, value)
            case [] if not field.field_info.is_required():
                pass
            case _:
                raise ValueError(field.alias)
    return known | {field.name: _valid(field, body) for field in takes.body_params}


def _is_json(request: Request) -> bool:
    if request.headers.get("content-type") != "application/json":
        raise ValueError("content-type")
    return True


def _valid(field: Any, value: Any) -> Any:
    valid, errors = field.validate(value, {})
    if errors:
        raise ValueError(field.alias)
    return valid


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, and then what else comes."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return whole.pop() if whole else await receive()

    return receiving


def record_of(request: Request, **about: str) -> None:
    """Say in the request's one log record what it was about."""
    request.scope["about"] = about


def operation_id(route: APIRoute) -> str:
    return route.name


def refused(error_types: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """A route's refusals for OpenAPI: each status with the error types that it can carry."""
    return {
        status: {
            "description": f"Refused: {names}",
            "content": _PROBLEM_CONTENT,
            **({"headers": _RETRY_AFTER} if status in {429, 503} else {}),
        }
        for status, names in error_types.items()
    }


def file_response(media_types: Iterable[str], *, description: str = "The file") -> dict[str, Any]:
    """An answer of one of these types for OpenAPI. Octets stand first: what a generated client takes it for."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {"description": description, "content": dict.fromkeys(["application/octet-stream", *media_types], binary)}
