"""What every answer carries, what every request leaves behind in logs and metrics, and what a bad peer can't do."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from chassis.app import create_app
from chassis.edge.auth import Access, Caller, current_caller
from chassis.edge.middleware import AnswerBroken
from chassis.health import Health
from chassis.problems import Problem
from chassis.settings import ServiceSettings
from chassis.telemetry import trace_id
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer

BOARD, EVIL = "https://board.example", "https://evil.example"
LIMIT = 1000
SUNSET = "2027-01-01T01:00:00+01:00"
log = structlog.get_logger()


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


def known(**given: Any) -> ServiceSettings:
    return ServiceSettings(app_port=1, dapr_http_port=1, app_api_token="app-token-of-the-tests", rate_limit="", **given)


@pytest.fixture
def app(issuer: Issuer) -> FastAPI:
    app = create_app(
        title="test",
        settings=known(
            auth_jwks_file=issuer.jwks_file,
            rate_limits={"GET /limited": "1/hour"},
            cors_origins=f"{BOARD} http://localhost:5173",
            max_body_bytes=LIMIT,
            body_seconds=0.05,
            API_DEPRECATED={"v1": {"since": "2026-01-01T00:00:00Z", "sunset": SUNSET, "link": "https://x.example"}},
        ),
        sidecar=FakeSidecar(),
        rules={
            "GET /open": Access.PUBLIC,
            "GET /limited": Access.PUBLIC,
            "GET /fail": Access.USER,
            "GET /broken": Access.PUBLIC,
            "GET /waiting": Access.PUBLIC,
            "POST /things": Access.PUBLIC,
            "POST /told/{by}": Access.PUBLIC,
            "GET /api/v1/things/{thing_id}": Access.USER,
            "GET /api/v2/things/{thing_id}": Access.USER,
        },
        health=Health({}),
        refusals={LookupError: Problem(status=409, error_type="not-now", title="Not now")},
    )

    async def look() -> str:
        log.info("looked")
        return "looked"

    async def thing(thing_id: str, caller: Annotated[Caller, Depends(current_caller)]) -> str:
        await asyncio.sleep(0)
        log.info("thing.seen")
        return caller.subject + thing_id

    async def fail() -> None:
        raise RuntimeError("ada@example.org")

    async def broken() -> StreamingResponse:
        return StreamingResponse(pieces())

    async def wait() -> None:
        await asyncio.Event().wait()

    async def take(body: dict[str, Any]) -> int:
        return len(body)

    for path, endpoint in (
        ("/open", look),
        ("/limited", look),
        ("/fail", fail),
        ("/broken", broken),
        ("/waiting", wait),
    ):
        app.get(path, name=path)(endpoint)
    for version in ("v1", "v2"):
        app.get(f"/api/{version}/things/{{thing_id}}", name=version)(thing)
    app.post("/things")(take)
    app.post("/told/{by}")(told)
    return app


async def told(request: Request, by: str) -> Response:
    """As the sidecar's events and a provider's webhooks come."""
    if not await request.body():
        raise LookupError
    return Response(f"{by} {trace_id()}")


async def pieces() -> AsyncIterator[bytes]:
    yield b"the first piece"
    raise RuntimeError("ada@example.org")


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(app) as client:
        yield client


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


def requests_of(logs: list[Any]) -> list[Any]:
    return [record for record in logs if record["event"] == "request"]


# ------------------------------------------------------------------------------------------------- every answer says


ANSWERS = [
    ("GET", "/open", 200),
    ("GET", "/docs", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/health/live", 200),
    ("GET", "/nowhere", 404),
    ("PUT", "/open", 405),
    ("GET", "/fail", 401),
    ("POST", "/things", 413),
]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
async def test_every_answer_tells_a_browser_to_be_careful(
    client: httpx.AsyncClient, method: str, path: str, status: int
):
    answer = await client.request(method, path, content=b" " * 2 * LIMIT if method == "POST" else None)

    assert answer.status_code == status
    assert_careful(answer)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")


def assert_careful(answer: httpx.Response) -> None:
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


async def test_so_do_a_failure_a_limit_and_a_preflight(client: httpx.AsyncClient, issuer: Issuer):
    await client.get("/limited")
    limited, failed = await client.get("/limited"), await client.get("/fail", headers=issuer.bearer())
    preflight = await client.options("/open", headers={"Origin": BOARD, "Access-Control-Request-Method": "GET"})

    assert [answer.status_code for answer in (limited, failed, preflight)] == [429, 500, 200]
    for answer in (limited, failed, preflight):
        assert_careful(answer)


async def test_no_header_is_sent_twice(client: httpx.AsyncClient, issuer: Issuer):
    answer = await client.get("/api/v1/things/7", headers=issuer.bearer() | {"Origin": BOARD})

    names = [name for name, _ in answer.headers.multi_items()]
    assert sorted(names) == sorted(set(names))


# -------------------------------------------------------------------------------------------------------------- CORS


@pytest.mark.parametrize("origin", [BOARD, "http://localhost:5173"])
@pytest.mark.parametrize("path", ["/open", "/nowhere", "/fail"])
async def test_a_listed_origin_may_read_every_answer_a_refusal_too(client: httpx.AsyncClient, origin: str, path: str):
    answer = await client.get(path, headers={"Origin": origin})

    assert answer.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in answer.headers  # a token is shown, no cookie
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    "origin",
    [
        EVIL,
        "null",
        "*",
        "",
        BOARD + ".evil.example",
        "http://board.example",
        BOARD + ":8443",
        BOARD + "/",
        BOARD.upper(),
    ],
)
async def test_no_other_origin_may_read_anything(client: httpx.AsyncClient, origin: str):
    asking = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    plain = await client.get("/open", headers={"Origin": origin})
    preflight = await client.options("/open", headers={"Origin": origin} | asking)

    assert "access-control-allow-origin" not in plain.headers
    assert "access-control-allow-origin" not in preflight.headers
    assert preflight.status_code == 400


async def test_a_preflight_needs_no_token_and_allows_what_the_services_read(client: httpx.AsyncClient):
    asking = {
        "Origin": BOARD,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, last-event-id",
    }

    answer = await client.options("/fail", headers=asking)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == BOARD
    assert "POST" in answer.headers["access-control-allow-methods"]


async def test_its_pages_may_send_any_header_by_any_method(client: httpx.AsyncClient):
    asking = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-board, if-match"}

    assert (await client.options("/open", headers={"Origin": EVIL} | asking)).status_code == 400
    allowed = await client.options("/open", headers={"Origin": BOARD} | asking)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-headers"] == "x-board, if-match"


@pytest.mark.parametrize("origins", ["*", "https://*.example", "board.example", "null", f"{BOARD} *"])
def test_no_wildcard_can_be_configured(origins: str):
    with pytest.raises(ValueError, match="cors_origins"):
        known(cors_origins=origins)


# -------------------------------------------------------------------------------------------------------- deprecation


async def test_a_deprecated_version_says_so_also_in_its_refusals(client: httpx.AsyncClient, issuer: Issuer):
    for headers in (issuer.bearer(), {}):
        answer = await client.get("/api/v1/things/7", headers=headers)
        assert answer.headers["deprecation"] == "@1767225600"
        assert answer.headers["sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"
        assert answer.headers["link"] == '<https://x.example>; rel="deprecation"'


@pytest.mark.parametrize("path", ["/api/v2/things/7", "/open", "/api/v10/things/7", "/health/live"])
async def test_nothing_else_does(client: httpx.AsyncClient, issuer: Issuer, path: str):
    answer = await client.get(path, headers=issuer.bearer())

    assert not {"deprecation", "sunset", "link"} & set(answer.headers)


def test_a_date_without_a_zone_is_no_date():
    with pytest.raises(ValueError, match="timezone"):
        known(API_DEPRECATED={"v1": {"since": "2026-01-01T00:00:00", "sunset": SUNSET}})


# ---------------------------------------------------------------------------------------------------------- bad peers


class Wire:
    """One request as a server sees it: what comes in is given, what goes out is kept; then nothing more comes."""

    def __init__(self, app: FastAPI, method: str, path: str, *incoming: dict[str, Any]) -> None:
        self._app = app
        self._incoming = list(incoming)
        self.sent: list[Any] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self._scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "query_string": b""}

    async def run(self) -> None:
        scope = self._scope | {"headers": self.headers, "client": ("192.0.2.1", 1), "scheme": "http"}
        await self._app(scope, self._receive, self._send)

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    async def _receive(self) -> Any:
        if not self._incoming:
            await asyncio.Event().wait()
        return self._incoming.pop(0)

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize("incoming", [[], [piece(b"{")], [piece(b"")] * 5])
async def test_a_body_that_does_not_come_is_given_up(app: FastAPI, logs: list[Any], incoming: list[dict[str, Any]]):
    wire = Wire(app, "POST", "/things", *incoming)

    await wire.run()

    assert wire.status == 408
    assert b'"body-too-slow"' in wire.body
    assert (b"connection", b"close") in wire.sent[0]["headers"]
    assert [record["status"] for record in requests_of(logs)] == [408]


async def test_a_body_that_never_ends_is_cut_off_though_it_never_said_how_long_it_is(app: FastAPI):
    wire = Wire(app, "POST", "/things", *[piece(b" " * 100)] * 50)

    await wire.run()

    assert wire.status == 413
    assert b'"body-too-large"' in wire.body


@pytest.mark.parametrize("length", [b"9" * 5000, b"1001", b"999999999999999999999"])
async def test_a_body_that_says_it_is_too_large_is_believed(app: FastAPI, length: bytes):
    wire = Wire(app, "POST", "/things", piece(b"{}", more=False))
    wire.headers = [(b"content-length", length)]

    await wire.run()

    assert wire.status == 413


@pytest.mark.parametrize("length", [b"-1", b"1e9", b"", b"0x10", b"\xb2"])
async def test_a_length_that_is_none_does_no_harm(app: FastAPI, length: bytes):
    wire = Wire(app, "POST", "/things", piece(b"{}", more=False))
    wire.headers = [(b"content-length", length), (b"content-type", b"application/json")]

    await wire.run()

    assert wire.status == 200


@pytest.mark.parametrize("path", ["/things", "/told/ada"])
async def test_a_caller_who_hangs_up_amid_the_body_is_no_failure_of_ours(app: FastAPI, logs: list[Any], path: str):
    wire = Wire(app, "POST", path, piece(b'{"a"'), {"type": "http.disconnect"})

    await wire.run()

    assert [record["event"] for record in logs] == ["request.begun", "request"]
    assert logs[1]["status"] < 500


async def test_a_request_that_is_given_up_leaves_its_record_without_a_status(app: FastAPI, logs: list[Any]):
    running = asyncio.create_task(Wire(app, "GET", "/waiting").run())
    for _ in range(20):
        await asyncio.sleep(0)

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert [(record["route"], record["status"]) for record in requests_of(logs)] == [("/waiting", 0)]


async def test_who_takes_the_request_alone_is_called_with_its_path_in_its_trace_and_refuses_as_others(
    client: httpx.AsyncClient,
):
    trace = "0af7651916cd43dd8448eb211c80319c"

    answer = await client.post("/told/a%2Fb", content=b"x", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    refused = await client.post("/told/a", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})

    assert (answer.status_code, answer.text) == (200, f"a/b {trace}")
    assert (refused.status_code, refused.json()["errorType"], refused.json()["traceId"]) == (409, "not-now", trace)


async def test_why_fastapi_refused_is_on_record_too(client: httpx.AsyncClient, logs: list[Any]):
    await client.post("/things", content=b"{", headers={"content-type": "application/json"})

    assert [(record["status"], record["refused"]) for record in requests_of(logs)] == [(400, "malformed-json")]


async def test_an_answer_that_breaks_off_is_seen_to_and_tells_the_server_nothing(app: FastAPI, logs: list[Any]):
    wire = Wire(app, "GET", "/broken")

    with pytest.raises(AnswerBroken) as broken:
        await wire.run()

    assert (broken.value.args, broken.value.__cause__, broken.value.__suppress_context__) == ((), None, True)
    assert wire.body == b"the first piece"
    assert wire.sent[-1]["more_body"]
    assert [(record["event"], record["log_level"]) for record in logs] == [
        ("request.begun", "debug"),
        ("request.failed", "error"),
        ("request", "info"),
    ]
    assert (logs[2]["status"], logs[2]["refused"]) == (200, "answer-broken")


# ----------------------------------------------------------------------------------------------------------- the logs


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("GET /api/v2/things/secret-7?q=secret", ("/api/v2/things/{thing_id}", 200, None)),
        ("GET /fail?q=secret", ("/fail", 500, "internal-error")),
        ("GET /secret?q=secret", ("unknown", 404, "not-found")),
        ("PUT /open?secret", ("unknown", 405, "method-not-allowed")),
    ],
)
async def test_a_request_leaves_one_record_with_its_route_and_nothing_of_its_address(
    client: httpx.AsyncClient, issuer: Issuer, logs: list[Any], sent: str, told: tuple[str, int, str | None]
):
    method, path = sent.split()
    await client.request(method, path, headers=issuer.bearer(sub="u-7", tenant="north"))

    (record,) = requests_of(logs)
    assert (record["method"], record["route"], record["status"], record.get("refused")) == (method, *told)
    assert record["duration_ms"] >= 0
    caller = {"tenant": "north", "caller": "u-7", "tenant_name": "North"} if told[1] in {200, 500} else {}
    assert {name: record[name] for name in ("tenant", "caller", "tenant_name") if name in record} == caller
    assert "secret" not in str(record)


async def test_a_refused_request_names_no_caller_but_the_reason(
    client: httpx.AsyncClient, issuer: Issuer, logs: list[Any]
):
    await client.get("/api/v2/things/7", headers={"Authorization": "Bearer nonsense"})
    await client.get("/api/v2/things/7", headers=issuer.bearer("none-of-ours", sub="u-7"))

    unknown, known = requests_of(logs)
    assert (unknown["status"], unknown["refused"], "caller" in unknown) == (401, "unauthenticated", False)
    assert (known["status"], known["refused"], known["caller"]) == (403, "role-missing", "u-7")


async def test_a_request_is_on_record_from_its_beginning_with_what_sent_it(app: FastAPI, logs: list[Any]):
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("DEBUG"))
    async with calling(app) as client:
        await client.get("/open", headers={"User-Agent": "Board/1.0 " + 300 * "x"})

    begun, ended = [record for record in logs if record["event"].startswith("request")]
    assert (begun["event"], begun["log_level"], begun["route"]) == ("request.begun", "debug", "GET /open")
    assert ended["user_agent"] == ("Board/1.0 " + 300 * "x")[:200]


async def test_probes_leave_no_record_while_all_is_well(client: httpx.AsyncClient, logs: list[Any]):
    await client.get("/health/live")

    assert logs == []


async def test_what_a_route_logs_says_for_whom_and_the_next_request_knows_nothing_of_it(
    client: httpx.AsyncClient, issuer: Issuer, logs: list[Any]
):
    await client.get("/api/v2/things/7", headers=issuer.bearer(sub="u-7", tenant="north"))
    await client.get("/open")

    seen, looked = [record for record in logs if record["event"] in {"thing.seen", "looked"}]
    assert (seen["tenant"], seen["tenant_name"], seen["caller"]) == ("north", "North", "u-7")
    assert not {"tenant", "tenant_name", "caller"} & set(looked)
    assert structlog.contextvars.get_contextvars() == {}


async def test_requests_at_once_are_not_taken_for_each_other(
    client: httpx.AsyncClient, issuer: Issuer, logs: list[Any]
):
    subjects = [f"u-{number}" for number in range(20)]
    answers = await asyncio.gather(
        *(client.get("/api/v2/things/x", headers=issuer.bearer(sub=sub, tenant=f"t-{sub}")) for sub in subjects)
    )

    assert [answer.json() for answer in answers] == [f"{sub}x" for sub in subjects]
    told = [(record["caller"], record["tenant"]) for record in logs if record["event"] in {"thing.seen", "request"}]
    assert sorted(told) == sorted([(sub, f"t-{sub}") for sub in subjects] * 2)


# -------------------------------------------------------------------------------------------------------- the metrics


async def test_requests_are_counted_and_timed_by_route(
    client: httpx.AsyncClient, issuer: Issuer, points: Callable[[str], list[Any]]
):
    for thing in range(3):
        await client.get(f"/api/v2/things/counted-{thing}", headers=issuer.bearer(tenant="counted"))
    for path in range(3):
        await client.get(f"/uncounted-{path}")

    (counted,) = [point for point in points("edge.requests") if point.attributes["tenant"] == "counted"]
    assert counted.value == 3
    assert dict(counted.attributes) == {
        "http.request.method": "GET",
        "http.route": "/api/v2/things/{thing_id}",
        "http.response.status_code": 200,
        "tenant": "counted",
        "refused": "",
    }
    routes = {point.attributes["http.route"] for point in points("http.server.request.duration")}
    assert {"/api/v2/things/{thing_id}", "unknown"} <= routes
    assert not any("counted" in route for route in routes)
