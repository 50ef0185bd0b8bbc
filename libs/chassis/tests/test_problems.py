"""Every refusal is a problem document, and an unexpected error says nothing."""

import sqlite3
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Header, HTTPException, Query
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chassis.app import create_app
from chassis.db import DatabaseInUse
from chassis.edge.auth import Access
from chassis.health import Check, Health
from chassis.problems import Invalid, Problem, Unavailable, install
from chassis.settings import ServiceSettings
from chassis.sidecar import SidecarDown
from chassis.wire import RequestBody
from stack.fake_sidecar import FakeSidecar
from stack.serving import serving

LIMIT = 1000
MEMBERS = {"type", "title", "status", "detail", "instance", "traceId", "errorType", "timestamp"}


class NoSuchThing(Exception):
    def __init__(self) -> None:
        super().__init__("There is no such thing.")
        self.members = {"thing": "t-1"}


class Size(RequestBody):
    in_metres: int


class Part(RequestBody):
    size: int | Size


class Thing(RequestBody):
    parts: list[Part]
    title: str


class State:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.required_up = self.optional_up = True
        self.taken: list[Any] = []


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def client(state: State) -> AsyncIterator[httpx.AsyncClient]:
    app = service(state)
    async with serving(app, {}) as client:
        yield client


def service(state: State) -> FastAPI:
    async def required() -> None:
        if not state.required_up:
            raise ConnectionError("postgresql://user:secret@db")

    async def optional() -> None:
        if not state.optional_up:
            raise ConnectionError

    app = create_app(
        title="test",
        settings=ServiceSettings(
            app_port=1, dapr_http_port=1, app_api_token="app-token-of-the-tests", max_body_bytes=LIMIT, rate_limit=""
        ),
        sidecar=FakeSidecar(),
        rules={"GET /fail": Access.PUBLIC, "POST /things": Access.PUBLIC, "GET /things": Access.PUBLIC},
        health=Health(
            {"database": Check(probe=required, required=True), "cache": Check(probe=optional, required=False)}
        ),
        refusals={NoSuchThing: Problem(status=404, error_type="no-such-thing", title="No such thing")},
    )

    async def fail() -> None:
        if state.error is not None:
            raise state.error

    async def take(body: Thing) -> None:
        state.taken.append(body)

    async def look(limit: Annotated[int, Query(ge=1)], x_key: Annotated[str, Header(max_length=3)]) -> None:
        state.taken.append((limit, x_key))

    app.get("/fail")(fail)
    app.post("/things")(take)
    app.get("/things")(look)
    return app


DOWN = sqlite3.OperationalError("no such table: secret_table")


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (Problem(status=418, error_type="teapot", title="A teapot"), 418, "teapot"),
        (NoSuchThing(), 404, "no-such-thing"),
        (Invalid("/parts/0", "Too big."), 422, "invalid-request"),
        (Unavailable("thing"), 503, "thing-unavailable"),
        (SidecarDown(), 503, "sidecar-unavailable"),
        (HTTPException(403, "Not for you"), 403, "not-for-you"),
        (OperationalError("SELECT secret FROM t", {}, DOWN), 503, "database-unavailable"),
        (InterfaceError("SELECT secret FROM t", {}, DOWN), 503, "database-unavailable"),
        (PoolTimeout("secret pool"), 503, "database-unavailable"),
        (DatabaseInUse("/secret/path"), 503, "database-unavailable"),
        (ProgrammingError("SELECT secret FROM t", {}, DOWN), 500, "internal-error"),
        (RuntimeError("secret"), 500, "internal-error"),
        (KeyError("secret"), 500, "internal-error"),
    ],
)
async def test_every_error_is_a_problem_document_and_leaks_nothing(
    client: httpx.AsyncClient, state: State, error: Exception, status: int, error_type: str
):
    state.error = error

    answer = await client.get("/fail")

    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["errorType"]) == (status, status, error_type)
    assert set(problem) >= MEMBERS
    assert problem["type"] == f"urn:brewline:problem:{error_type}"
    assert problem["instance"] == "/fail"
    assert len(problem["traceId"]) == 32
    assert ("retry-after" in answer.headers) == (status == 503)
    for leak in ("secret", "SELECT", "Traceback", "File", "Error("):
        assert leak not in answer.text


async def test_a_refusals_own_text_and_members_are_told(client: httpx.AsyncClient, state: State):
    state.error = NoSuchThing()

    problem = (await client.get("/fail")).json()

    assert (problem["title"], problem["detail"], problem["thing"]) == (
        "No such thing",
        "There is no such thing.",
        "t-1",
    )


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"parts": [{"size": 1}, {"size": "big"}], "title": "x"}, ["/parts/1/size"]),
        ({}, ["/parts", "/title"]),
        ({"parts": [{}], "title": 7}, ["/parts/0/size", "/title"]),
        ([], [""]),
        ({"parts": [], "title": "x", "tilte": "y"}, ["/tilte"]),
        ({"parts": [{"size": 1, "in/~": 1}], "title": "x"}, ["/parts/0/in~1~0"]),
        ({"parts": [{"size": {"inMetres": 1, "inFeet": 3}}], "title": "x"}, ["/parts/0/size", "/parts/0/size/inFeet"]),
        ({"parts": [{"size": {}}], "title": "x"}, ["/parts/0/size", "/parts/0/size/inMetres"]),
    ],
)
async def test_validation_points_into_the_body(client: httpx.AsyncClient, body: Any, pointers: list[str]):
    answer = await client.post("/things", json=body)

    problem = answer.json()
    assert (answer.status_code, problem["errorType"]) == (422, "invalid-request")
    assert list(dict.fromkeys(error["pointer"] for error in problem["errors"])) == pointers
    assert all(set(error) == {"pointer", "detail"} for error in problem["errors"])


async def test_validation_names_a_query_parameter_and_a_header(client: httpx.AsyncClient, state: State):
    answer = await client.get("/things", params={"limit": 0}, headers={"X-Key": "long"})

    assert {error["pointer"] for error in answer.json()["errors"]} == {"?limit", "x-key"}
    assert state.taken == []


async def test_json_that_is_broken_is_400(client: httpx.AsyncClient):
    answer = await client.post("/things", content=b'{"parts": ', headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["errorType"]) == (400, "malformed-json")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_a_body_that_is_not_sent_as_plain_json_is_told_so(client: httpx.AsyncClient, headers: dict[str, str]):
    answer = await client.post("/things", content=b'{"parts": []}', headers=headers)

    assert (answer.status_code, answer.json()["errorType"]) == (415, "unsupported-media-type")
    assert answer.headers.get("accept", answer.headers.get("accept-encoding")) in {"application/json", "identity"}


@pytest.mark.parametrize("body", [b"[" * 100_000, b"9" * 5000, b'"\xff"'], ids=["deep", "long", "no UTF-8"])
async def test_json_that_nobody_parses_is_broken_too(body: bytes):
    async def take(thing: Thing) -> None:
        raise AssertionError(thing)

    app = FastAPI()
    app.post("/things")(take)
    install(app, {})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post("/things", content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["errorType"]) == (400, "malformed-json")


async def test_a_body_that_declares_too_much_is_refused_and_only_so_much_of_it_is_read(
    client: httpx.AsyncClient, state: State
):
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for piece in range(100):
            read.append(piece)
            yield b" " * LIMIT

    headers = {"Content-Length": str(100 * LIMIT), "Content-Type": "application/json"}
    answer = await client.post("/things", content=body(), headers=headers)

    assert (answer.status_code, answer.json()["errorType"]) == (413, "body-too-large")
    assert len(read) <= 10
    assert state.taken == []


async def test_a_body_that_declares_nothing_is_refused_where_it_passes_the_limit(client: httpx.AsyncClient):
    sent: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for piece in range(100):
            sent.append(piece)
            yield b" " * (LIMIT // 4)

    answer = await client.post("/things", content=body(), headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["errorType"]) == (413, "body-too-large")
    assert len(sent) <= 6


async def test_a_body_at_the_limit_is_taken(client: httpx.AsyncClient, state: State):
    body = b'{"parts": [], "title": "x"}'

    answer = await client.post(
        "/things", content=body + b" " * (LIMIT - len(body)), headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 200
    assert len(state.taken) == 1


async def test_unknown_paths_and_methods_are_problems(client: httpx.AsyncClient):
    assert (await client.get("/nowhere")).json()["errorType"] == "not-found"
    assert (await client.put("/fail")).json()["errorType"] == "method-not-allowed"
