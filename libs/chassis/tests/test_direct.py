"""What `Direct` calls itself and what FastAPI calls can't be told apart by whoever asks."""

from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Header, Query, Request, Response
from pydantic import AfterValidator, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis import problems
from chassis.edge.routes import Direct
from chassis.problems import Invalid
from chassis.wire import Wire


class Ordered(Wire, extra="forbid"):
    sku: Annotated[str, Field(max_length=4)]
    quantity: int = 1


def _lower(text: str) -> str:
    if text == "none":
        raise Invalid("?thing", "is none")
    return text.lower()


Thing = Annotated[str, AfterValidator(_lower)]
Key = Annotated[str, Header(min_length=2, alias="X-Key")]


async def order(
    request: Request, thing: Thing, body: Ordered, key: Key, prefer: Annotated[str, Header()] = "-"
) -> Response:
    content = (await request.body()).decode()
    return Response(f"{thing} {body.sku} {body.quantity} {key} {prefer} {content} {request.path_params}", 201)


async def query(request: Request, name: Annotated[str, Query()]) -> Response:
    return Response(name + str(request.url))


async def value(request: Request) -> dict[str, str]:
    return {"at": str(request.url)}


class Seen:
    """Whether FastAPI's router was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self.asked = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        await self._app(scope, receive, send)


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    problems.install(app, {})
    for path, endpoint in (("/order/{thing}", order), ("/query", query), ("/value", value)):
        app.post(path)(endpoint)
    return app


@pytest.fixture
def ask(app: FastAPI) -> Callable[..., Any]:
    """Both ways; the answer if they are the same, and whether FastAPI was needed."""
    seen = Seen(app)
    direct = Direct(seen, routes=app.router.routes)

    async def as_the_edge_does(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await direct({**scope, "rule": f"POST {RULES[scope['path']]}"}, receive, send)
        except Invalid as error:
            await problems.respond(problems.of(error), instance=scope["path"])(scope, receive, send)

    async def both(path: str, **given: Any) -> tuple[httpx.Response, bool]:
        answers: list[httpx.Response] = []
        for one in (app, as_the_edge_does):
            transport = httpx.ASGITransport(one)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                answers.append(await client.post(path, **given))
        plain, mine = answers
        moving = {"timestamp", "traceId"}
        told = [
            {key: value for key, value in answer.json().items() if key not in moving}
            if "json" in answer.headers.get("content-type", "")
            else answer.text
            for answer in answers
        ]
        assert (plain.status_code, told[0]) == (mine.status_code, told[1])
        return mine, bool(seen.asked)

    return both


RULES = {"/order/A": "/order/{thing}", "/order/none": "/order/{thing}"} | {path: path for path in ("/query", "/value")}
GOOD: dict[str, Any] = {"json": {"sku": "a"}, "headers": {"X-Key": "k-1"}}


async def test_what_is_as_it_should_be_needs_no_fastapi(ask: Callable[..., Any]):
    answer, by_fastapi = await ask("/order/A", **GOOD)

    assert (answer.status_code, by_fastapi) == (201, False)
    assert answer.text.startswith("a a 1 k-1 - ")


async def test_what_an_endpoint_refuses_is_refused_alike(ask: Callable[..., Any]):
    answer, by_fastapi = await ask("/order/none", **GOOD)

    assert (answer.json()["errorType"], by_fastapi) == ("invalid-request", False)


async def test_the_body_is_looked_at_first(ask: Callable[..., Any]):
    headers = {"X-Key": "k-1", "content-type": "application/json"}
    answer, by_fastapi = await ask("/order/none", content=b"{", headers=headers)

    assert (answer.json()["errorType"], by_fastapi) == ("malformed-json", True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"json": {"sku": "a", "unknown": 1}},
        {"json": {"sku": "abcde", "quantity": "x"}},
        {"json": []},
        {"content": b"", "headers": {"X-Key": "k-1", "content-type": "application/json"}},
        {"content": b'{"sku": "a"', "headers": {"X-Key": "k-1", "content-type": "application/json"}},
        {"content": b"\xff", "headers": {"X-Key": "k-1", "content-type": "application/json"}},
        {"content": b"[" * 100_000, "headers": {"X-Key": "k-1", "content-type": "application/json"}},
        {"content": b'{"sku": "a"}', "headers": {"X-Key": "k-1", "content-type": "text/plain"}, "json": None},
        {"content": b'{"sku": "a"}', "headers": {"X-Key": "k-1", "content-type": "application/json; charset=utf-8"}},
        {"headers": {}},
        {"headers": {"X-Key": "k"}},
        {"headers": [("X-Key", "k-1"), ("X-Key", "k-2")]},
    ],
)
async def test_whatever_is_not_fastapi_looks_at(ask: Callable[..., Any], wrong: dict[str, Any]):
    given = {key: one for key, one in (GOOD | wrong).items() if not (key == "json" and "content" in wrong)}
    _, by_fastapi = await ask("/order/A", **given)

    assert by_fastapi


@pytest.mark.parametrize(("path", "given"), [("/query?name=x", {}), ("/value", {})])
async def test_what_takes_more_or_answers_otherwise_is_left_to_fastapi(
    ask: Callable[..., Any], path: str, given: dict[str, Any]
):
    answer, by_fastapi = await ask(path, **given)

    assert (answer.status_code, by_fastapi) == (200, True)
