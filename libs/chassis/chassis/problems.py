"""Refusals become RFC 9457 problem documents here and nowhere else.

Services raise plain domain errors; a table given to `install` says which problem each of them is. Nothing of an
unexpected error reaches the caller but its trace id.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from chassis.db import DATABASE_DOWN, sqlstate
from chassis.ids import now
from chassis.telemetry import trace_id

log = structlog.get_logger()

_RETRY_AFTER = "5"


@dataclass(kw_only=True, eq=False)  # not frozen: Python itself sets an exception's traceback
class Problem(Exception):
    """An answer of 4xx or 5xx. `error_type` is kebab-case and stable; clients switch on it.

    Made anew whenever it is raised: an exception keeps the frames that it has come through, each time more of them.
    """

    status: int
    error_type: str
    title: str
    detail: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    members: dict[str, Any] = field(default_factory=dict[str, Any])


class FieldProblem(BaseModel):
    pointer: str
    detail: str


class ProblemDocument(BaseModel):
    """The shape of every 4xx and 5xx, for OpenAPI."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    trace_id: str
    error_type: str
    timestamp: str
    errors: list[FieldProblem] | None = None


class Invalid(Exception):
    """Input that parses and still can't be accepted; `pointer` is a JSON pointer into the body, or `?name`."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.detail = detail


class Unavailable(Exception):
    """Something we need before we may start is down; nothing was written."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def pointer_to(parts: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def unavailable(what: str) -> Problem:
    return Problem(
        status=503,
        error_type=f"{what}-unavailable",
        title="Temporarily unavailable",
        detail=f"The {what} does not answer at the moment. Nothing was written; try again.",
        headers={"Retry-After": _RETRY_AFTER},
    )


def invalid(errors: list[FieldProblem]) -> Problem:
    fields = ", ".join(error.pointer or "/" for error in errors)
    return Problem(
        status=422,
        error_type="invalid-request",
        title="The request is not valid",
        detail=f"Not acceptable: {fields}",
        members={"errors": [error.model_dump() for error in errors]},
    )


def respond(problem: Problem, *, instance: str) -> Response:
    document = {
        "type": f"urn:brewline:problem:{problem.error_type}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail or problem.title,
        "instance": instance,
        "traceId": trace_id(),
        "errorType": problem.error_type,
        "timestamp": now().isoformat(),
        **problem.members,
    }
    return Response(
        orjson.dumps(document), problem.status, headers=problem.headers, media_type="application/problem+json"
    )


def path_as_sent(scope: Scope) -> str:
    """Percent-encoded, as a URI reference has to be."""
    return scope["raw_path"].decode("ascii") if "raw_path" in scope else scope["path"]


def install(app: FastAPI, refusals: Mapping[type[Exception], Problem]) -> None:
    """Register the handlers. A refusal's own text is its `detail`; its attribute `members`, if any, is added. The
    table is `app.state.refusals` for whoever answers for many things at once."""
    app.state.refusals = refusals

    async def answer(request: Request, error: Exception) -> Response:
        problem = of(error, refusals)
        request.scope["refused"] = problem.error_type
        return respond(problem, instance=path_as_sent(request.scope))

    handled = [Problem, Invalid, Unavailable, RequestValidationError, HTTPException]
    for kind in (*handled, *DATABASE_DOWN, *refusals):
        app.add_exception_handler(kind, answer)


def of(error: Exception, refusals: Mapping[type[Exception], Problem] = MappingProxyType({})) -> Problem:
    """The problem that an error is to its caller. An unexpected one is logged, and says nothing."""
    match error:
        case Problem():
            return error
        case Invalid():
            return invalid([FieldProblem(pointer=error.pointer, detail=error.detail)])
        case Unavailable():
            return unavailable(error.what)
        case RequestValidationError():
            return _invalid_request(error)
        case HTTPException():
            return _http(error)
        case ClientDisconnect() | RecursionError():  # nobody hears the one; the other is JSON, but too deep
            return malformed()
        case _ if isinstance(error, DATABASE_DOWN):
            log.error("database.unavailable", error=type(error).__name__, sqlstate=sqlstate(error))
            return unavailable("database")
        case _ if type(error) in refusals:
            known = refusals[type(error)]
            return Problem(
                status=known.status,
                error_type=known.error_type,
                title=known.title,
                detail=str(error),
                headers=known.headers,
                members=getattr(error, "members", {}),
            )
        case _:
            log.error("request.failed", exc_info=error)
            return Problem(status=500, error_type="internal-error", title="Internal error")


def malformed() -> Problem:
    return Problem(status=400, error_type="malformed-json", title="The body is not valid JSON")


def not_plain_json() -> Problem:
    return Problem(
        status=415,
        error_type="unsupported-media-type",
        title="Unsupported media type",
        detail="The body has to be sent as `Content-Type: application/json`, without a `Content-Encoding`.",
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )


def _http(error: HTTPException) -> Problem:
    if error.status_code == 400 and isinstance(error.__cause__, (RecursionError, ValueError)):
        return malformed()  # too deep, a number too long, no UTF-8: FastAPI knows no name for it
    title = str(error.detail)
    kind = title.lower().replace(" ", "-")
    return Problem(status=error.status_code, error_type=kind, title=title, headers=dict(error.headers or {}))


def _invalid_request(error: RequestValidationError) -> Problem:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return malformed()
    if isinstance(error.body, bytes):  # FastAPI leaves it as it is where its Content-Type is not JSON's
        return not_plain_json()
    return invalid([FieldProblem(pointer=_pointer(one, error.body), detail=str(one["msg"])) for one in error.errors()])


def _pointer(error: Mapping[str, Any], body: Any) -> str:
    """`("body", "items", 0, "sku")` is `/items/0/sku`; a query or path parameter is `?name`; a header is its name."""
    where, *rest = error["loc"]
    if where == "body":
        return pointer_to(_found(rest, body, missing=error["type"] == "missing"))
    if where in {"query", "path"}:
        return "?" + ".".join(str(part) for part in rest)
    return ".".join(str(part) for part in rest)


def _found(location: Sequence[str | int], body: Any, *, missing: bool) -> Iterator[str | int]:
    """The parts of a location that stand in the body. Pydantic names the members of its unions too, which do not."""
    for index, part in enumerate(location):
        if missing and index == len(location) - 1:
            yield part
            return
        try:
            body = body[part]
        except (LookupError, TypeError):
            continue
        yield part
