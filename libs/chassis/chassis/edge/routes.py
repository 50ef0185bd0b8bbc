"""A resource's routes, and what OpenAPI says of their refusals."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.convertors import StringConvertor, register_url_convertor

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
