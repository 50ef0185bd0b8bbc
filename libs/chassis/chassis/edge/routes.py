"""A resource's routes, and what OpenAPI says of their refusals."""

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, get_type_hints

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

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
    """Calls an endpoint that takes the request and parts of its path, and answers a response. FastAPI would do no more
    for it than find it again, and that costs several times what taking an event does.

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
            scope |= route.matches(scope)[1]
        response: Response = await route.endpoint(request=Request(scope, receive, send), **scope.get("path_params", {}))
        await response(scope, receive, send)

    @cached_property
    def _direct(self) -> Mapping[str, APIRoute]:
        """Of all routes that there are by the first request."""
        return {
            f"{method} {route.path}": route
            for route in self._routes
            if isinstance(route, APIRoute) and _takes_the_request_alone(route)
            for method in route.methods
        }


def _takes_the_request_alone(route: APIRoute) -> bool:
    wanted = {"request": Request, "return": Response, **dict.fromkeys(route.param_convertors, str)}
    return inspect.iscoroutinefunction(route.endpoint) and get_type_hints(route.endpoint) == wanted


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
