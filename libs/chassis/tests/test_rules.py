"""A route has a rule or can't be reached, and nothing of a request is read before its rule is met."""

import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from hypothesis import given
from hypothesis import strategies as st

from chassis.app import create_app
from chassis.edge.auth import Access, Caller, Role, require_operator
from chassis.edge.rules import CHASSIS_RULES, Book, routes_of
from chassis.health import Health
from chassis.problems import Problem
from chassis.settings import ServiceSettings
from stack.examples import examples
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer

APP_TOKEN = "app-token-of-the-tests"
RULES = {
    "GET /public": Access.PUBLIC,
    "GET /guest": Access.GUEST,
    "GET /probe": Access.PROBE,
    "GET /status": Access.STATUS,
    "GET /signed": Access.SIGNED,
    "POST /sidecar": Access.SIDECAR,
    "GET /own": Access.OWN,
    "GET /user": Access.USER,
    "GET /seldom": Access.USER,
    "GET /staff": Access.STAFF,
    "GET /admin": Access.ADMIN,
    "GET /operator": Access.OPERATOR,
    "POST /things": Access.USER,
    "GET /things/{thing_id}": Access.STAFF,
    "DELETE /things/{thing_id}": Access.ADMIN,
    "POST /things/{thing_id}/ending": Access.USER,
}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


# What `Jobs.mount` adds.
OF_JOBS = ("POST /job/{name}", "GET /api/v1/recurring", "POST /api/v1/recurring/{name}/run")


@pytest.fixture(scope="module")
def app(issuer: Issuer) -> FastAPI:
    app = create_app(
        title="test",
        settings=ServiceSettings(
            app_port=1,
            dapr_http_port=1,
            app_api_token=APP_TOKEN,
            auth_jwks_file=issuer.jwks_file,
            operator_tenant="default",
            rate_limits={"GET /seldom": "1/hour"},
        ),
        sidecar=FakeSidecar(),
        rules=RULES,
        health=Health({}),
        refusals={},
    )

    async def reached(request: Request) -> str:
        return request.path_params.get("thing_id", "reached")

    async def made(body: dict[str, Any]) -> str:
        return f"made {len(body)}"

    async def listen(websocket: WebSocket) -> None:
        await websocket.accept()

    app.add_api_websocket_route("/public", listen)
    for route in (*RULES, "GET /forgotten", "GET /dapr/subscribe", *OF_JOBS):
        method, path = route.split(" ")
        app.add_api_route(path, made if method == "POST" else reached, methods=[method], name=route)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errorType"]


# ------------------------------------------------------------------------------------------------------------- paths


async def test_a_route_without_a_rule_is_not_there(client: httpx.AsyncClient, issuer: Issuer):
    assert refusal(await client.get("/forgotten", headers=issuer.bearer("admin"))) == (404, "not-found")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST", "OPTIONS", "TRACE", "BREW", "get"])
async def test_another_method_is_told_which_there_are(app: FastAPI, method: str):
    wire = await asked(app, method, "/admin")

    assert (wire.status, wire.headers[b"allow"]) == (405, b"GET, HEAD")


async def test_methods_of_one_path_are_told_in_order_and_each_has_its_own_rule(
    client: httpx.AsyncClient, issuer: Issuer
):
    staff = issuer.bearer("staff")

    assert (await client.put("/things/7", headers=staff)).headers["allow"] == "DELETE, GET, HEAD"
    assert (await client.get("/things/7", headers=staff)).status_code == 200
    assert refusal(await client.delete("/things/7", headers=staff)) == (403, "role-missing")


MANGLED = [
    "/admin/", "//admin", "/admin//", "///admin", "/./admin/x", "/ADMIN", "/Admin", "/admin;x=1", "/admin%2F",
    "/%2Fadmin",
    "/admin%00", "/admin%0A", "/admin%20", "/admin.json", "/admin/.", "/admin/..", "/public%2F..%2Fadmin", "/adm%69n/",
    "/public/../admin", "/public;/../admin", "/public/%2e%2e/admin", "/things", "/things/", "/things//ending",
    "/things/7/", "/things%2F7%2Fx", "/things/7/ending/x", "/dapr", "/health/", "/health/live/x", "",
]  # fmt: skip


@pytest.mark.parametrize("path", MANGLED)
async def test_a_mangled_path_is_another_path_and_opens_nothing(app: FastAPI, client: httpx.AsyncClient, path: str):
    assert (await asked(app, "GET", path)).status in {401, 404, 405}
    assert (await client.get(path or "/")).status_code in {401, 404, 405}  # httpx resolves dots


class Sent(NamedTuple):
    status: int
    headers: dict[bytes, bytes]


async def asked(app: FastAPI, method: str, path: str) -> Sent:
    """What a server sends for a method and a path that no client has tidied up; decoded once, as a server does."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": method, "path": unquote(path), "raw_path": path.encode()}
    await app(scope | {"query_string": b"", "headers": [], "client": None, "scheme": "http"}, receive, send)
    return Sent(sent[0]["status"], dict(sent[0]["headers"]))


async def test_a_path_that_is_encoded_is_the_same_path(client: httpx.AsyncClient, issuer: Issuer):
    assert (await client.get("/%61dmin")).status_code == 401
    assert (await client.get("/%61dmin", headers=issuer.bearer("admin"))).status_code == 200


async def test_an_encoded_slash_is_a_character_of_its_segment(client: httpx.AsyncClient, issuer: Issuer):
    staff = issuer.bearer("staff")

    for path in ("/things/KE%2F001", "/things/KE%2f001"):
        assert (await client.get(path, headers=staff)).json() == "KE/001"
    refused = await client.post("/things/7%2Fending", headers=staff, json={})
    assert (*refusal(refused), refused.json()["instance"]) == (405, "method-not-allowed", "/things/7%2Fending")


async def test_head_is_get_without_a_body(app: FastAPI, client: httpx.AsyncClient, issuer: Issuer):
    for path in ("/health/live", "/public", "/admin"):
        head, get = [await client.request(method, path) for method in ("HEAD", "GET")]
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
    assert (await client.head("/things/7", headers=issuer.bearer())).status_code == 403
    assert (await asked(app, "HEAD", "/things/7/ending")).status == 405


@examples(30)
@given(path=st.text("/ab{}.%7\n", max_size=12).map("/".__add__), method=st.sampled_from(["GET", "POST", "PUT", "HEAD"]))
def test_the_book_finds_a_rule_only_where_one_is(path: str, method: str):
    book = Book({"GET /a": Access.ADMIN, "GET /a/{x}": Access.USER, "POST /a/{x}/b": Access.STAFF})
    found = None
    with suppress(Problem):
        found = book.find(method, path)

    if found is not None:
        assert book.rules[found.route] is found.access
        assert found.route.split(" ")[0] == method
        assert found.route.count("/") == path.count("/")


def test_a_rule_for_a_whole_path_comes_before_one_with_a_gap():
    book = Book({"GET /a/{x}": Access.PUBLIC, "GET /a/b": Access.ADMIN})

    assert book.find("GET", "/a/b").access is Access.ADMIN
    assert book.find("GET", "/a/c").access is Access.PUBLIC


async def test_a_websocket_is_closed_because_no_rule_can_name_one(app: FastAPI):
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/public", "headers": [], "query_string": b"", "scheme": "ws"}
    await app(scope, receive, send)

    assert [message["type"] for message in sent] == ["websocket.close"]


# ------------------------------------------------------------------------------------------------------- the sidecar


SIDECARS_OWN = ["GET /dapr/subscribe", "GET /dapr/config", "POST /job/any", "POST /sidecar"]


@pytest.mark.parametrize("route", SIDECARS_OWN)
@pytest.mark.parametrize(
    "token", [None, "", " ", APP_TOKEN[:-1], APP_TOKEN + "x", APP_TOKEN.upper(), "\xff" * 22, "x" * 10_000]
)
async def test_the_sidecars_routes_are_closed_without_the_app_token(
    client: httpx.AsyncClient, route: str, token: str | None
):
    method, path = route.split(" ")
    headers = [] if token is None else [(b"dapr-api-token", token.encode("latin-1"))]

    answer = await client.request(method, path, headers=headers)

    assert refusal(answer) == (401, "unauthenticated")
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("route", SIDECARS_OWN)
async def test_no_bearer_token_opens_what_is_the_sidecars(client: httpx.AsyncClient, issuer: Issuer, route: str):
    method, path = route.split(" ")
    for headers in (issuer.bearer("admin"), {"Authorization": f"Bearer {APP_TOKEN}"}):
        assert (await client.request(method, path, headers=headers)).status_code == 401


@pytest.mark.parametrize(("route", "status"), [*zip(SIDECARS_OWN, [200, 404, 200, 200], strict=True)])
async def test_the_app_token_opens_them(client: httpx.AsyncClient, route: str, status: int):
    method, path = route.split(" ")

    answer = await client.request(method, path, headers={"dapr-api-token": APP_TOKEN}, json={})

    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/own", "/user", "/staff", "/admin"])
async def test_the_app_token_makes_no_caller(client: httpx.AsyncClient, path: str):
    assert (await client.get(path, headers={"dapr-api-token": APP_TOKEN})).status_code == 401


# --------------------------------------------------------------------------------------------------------- the roles


LADDER = {
    Access.OWN: Role.USER,
    Access.USER: Role.USER,
    Access.STAFF: Role.STAFF,
    Access.ADMIN: Role.ADMIN,
    Access.OPERATOR: Role.ADMIN,
}


@pytest.mark.parametrize(("access", "role"), list(itertools.product(LADDER, Role)))
async def test_a_role_opens_what_it_and_lesser_ones_may(
    client: httpx.AsyncClient, issuer: Issuer, access: Access, role: Role
):
    answer = await client.get(f"/{access.name.lower()}", headers=issuer.bearer(role))

    enough = list(Role).index(role) >= list(Role).index(LADDER[access])
    assert answer.status_code == (200 if enough else 403)
    if not enough:
        assert answer.json()["detail"] == f"The role {LADDER[access]} is missing."


async def test_what_concerns_all_tenants_is_the_operators_admins_alone(client: httpx.AsyncClient, issuer: Issuer):
    answer = await client.get("/operator", headers=issuer.bearer("admin", tenant="acme"))

    assert refusal(answer) == (403, "operator-only")


def test_where_no_tenant_is_the_operators_nobody_is():
    admin = Caller(tenant="", tenant_name="", subject="a-1", roles=frozenset({Role.ADMIN}))

    with pytest.raises(Problem):
        require_operator(admin, "")


@pytest.mark.parametrize("access", Access)
async def test_who_shows_nothing_reaches_what_is_for_anybody(client: httpx.AsyncClient, access: Access):
    open_to_all = access in {Access.PUBLIC, Access.GUEST, Access.PROBE, Access.STATUS, Access.SIGNED}
    method = "POST" if access is Access.SIDECAR else "GET"

    answer = await client.request(method, f"/{access.name.lower()}")

    assert answer.status_code == (200 if open_to_all else 401)


async def test_a_bad_token_does_no_harm_where_none_is_asked_for(client: httpx.AsyncClient):
    assert (await client.get("/public", headers={"Authorization": "Bearer nonsense"})).status_code == 200


async def test_a_guest_who_shows_a_token_shows_a_good_one(client: httpx.AsyncClient, issuer: Issuer):
    assert refusal(await client.get("/guest", headers={"Authorization": "Bearer nonsense"})) == (401, "unauthenticated")
    assert (await client.get("/guest", headers=issuer.bearer())).status_code == 200


def test_every_access_is_a_rule_of_these_tests():
    assert set(RULES.values()) == set(Access)


# ---------------------------------------------------------------------------------------------------------- the body


@pytest.mark.parametrize(
    ("route", "roles", "status"),
    [
        ("POST /things", None, 401),
        ("POST /nowhere", None, 404),
        ("PUT /things", None, 405),
        ("DELETE /things/7", ["staff"], 403),
        ("POST /sidecar", None, 401),
        ("POST /dapr/subscribe", None, 401),
    ],
)
async def test_a_body_is_not_read_before_it_is_known_who_sends_it(
    client: httpx.AsyncClient, issuer: Issuer, route: str, roles: list[str] | None, status: int
):
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    method, path = route.split(" ")
    answer = await client.request(method, path, content=body(), headers=issuer.bearer(*roles) if roles else None)

    assert answer.status_code == status


async def test_a_body_is_not_read_for_who_calls_too_often(client: httpx.AsyncClient, issuer: Issuer):
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    first, second = [await client.request("GET", "/seldom", content=body(), headers=issuer.bearer()) for _ in range(2)]

    assert (first.status_code, second.status_code) == (200, 429)


async def test_broken_json_is_told_only_to_callers(client: httpx.AsyncClient, issuer: Issuer):
    broken: dict[str, Any] = {"content": b'{"a": ', "headers": {"Content-Type": "application/json"}}

    assert refusal(await client.post("/things", **broken)) == (401, "unauthenticated")
    broken["headers"] |= issuer.bearer()
    assert refusal(await client.post("/things", **broken)) == (400, "malformed-json")


# ------------------------------------------------------------------------------------------------------ the document


@pytest.mark.parametrize(
    ("route", "security", "refusals"),
    [
        ("GET /public", None, {"429"}),
        ("GET /probe", None, set[str]()),
        ("GET /signed", None, {"429"}),
        ("POST /sidecar", [{"sidecar": []}], {"401", "400", "408", "413", "415"}),
        ("GET /own", [{"bearer": []}], {"401", "403", "429", "503"}),
        ("GET /user", [{"bearer": []}], {"401", "403", "429", "503"}),
        ("GET /staff", [{"bearer": []}], {"401", "403", "429", "503"}),
        ("GET /admin", [{"bearer": []}], {"401", "403", "429", "503"}),
        ("GET /operator", [{"bearer": []}], {"401", "403", "429", "503"}),
        ("POST /things", [{"bearer": []}], {"401", "403", "429", "503", "400", "408", "413", "415"}),
    ],
)
async def test_the_document_says_what_a_route_asks_for(
    client: httpx.AsyncClient, route: str, security: Any, refusals: set[str]
):
    method, path = route.lower().split(" ")

    operation = (await client.get("/openapi.json")).json()["paths"][path][method]

    assert operation.get("security") == security
    assert operation["x-access"] == RULES[route].name.lower()
    assert set(operation["responses"]) - {"200", "422", "default"} == refusals
    for status in refusals:
        assert "application/problem+json" in operation["responses"][status]["content"]


async def test_the_document_names_the_schemes_and_only_what_can_be_reached(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()

    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["components"]["securitySchemes"]["sidecar"]["name"] == "dapr-api-token"
    assert "/forgotten" not in document["paths"]
    assert {path for path, operations in document["paths"].items() if not operations} == set()


async def test_the_document_does_not_change_by_being_read(client: httpx.AsyncClient):
    first, *others = [(await client.get("/openapi.json")).content for _ in range(3)]

    assert others == [first, first]


def test_routes_are_spelled_as_their_rules_are(app: FastAPI):
    assert routes_of(app) - {"GET /forgotten", "GET /dapr/subscribe"} == set(RULES) | set(CHASSIS_RULES)
