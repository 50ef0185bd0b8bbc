"""The data source beside a real sidecar, before a server that breaks off, stalls and talks nonsense below HTTP as the
sandbox can't: WireMock. `make test-more` gets its jar, and the Java that it needs."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx
import pytest
import sqlalchemy as sa
from brewery import DATASOURCE, bearer, client_of
from conftest import ROOT, components, specs

from chassis.ids import new_id, now
from datasource import tables
from datasource.domain import Entity
from datasource.mapping import transform
from sandbox.inn8_rows import ROWS, Row, made
from stack import local
from stack.eventually import eventually
from stack.sidecars import Stack

JAR = ROOT / "tools" / "bin" / "wiremock.jar"
MISSING = [name for name, there in {"java": shutil.which("java"), str(JAR): JAR.exists()}.items() if not there]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.more,
    pytest.mark.skipif(bool(MISSING), reason=f"WireMock needs {', '.join(MISSING)}: tools/setup.sh wiremock"),
]

PAGE = 4
Response = Mapping[str, Any]


class WireMock:
    """INN8 as WireMock plays it: the clients in pages of four, and of all else nothing."""

    def __init__(self, controls: httpx.Client) -> None:
        self._http = controls
        self.rows: list[Row] = []

    def up(self) -> bool:
        try:
            return self._http.get("/mappings").status_code == 200
        except httpx.TransportError:
            return False

    def serve(self, rows: list[Row]) -> None:
        """These and no others, and no trouble."""
        self.rows = rows
        self._http.post("/reset").raise_for_status()
        self.grants("usual")
        for entity in Entity:
            self._stub(f"/{entity}", {"jsonBody": {"items": [], "next": None}}, priority=9)
        for start in range(0, len(rows), PAGE):
            following = str(start + PAGE) if start + PAGE < len(rows) else None
            self._page(start, {"jsonBody": {"items": rows[start : start + PAGE], "next": following}}, priority=8)

    def at_first(self, trouble: Response) -> None:
        """So the second page is answered once."""
        once: dict[str, Any] = {
            "scenarioName": "trouble",
            "requiredScenarioState": "Started",
            "newScenarioState": "over",
        }
        self._page(PAGE, trouble, priority=1, **once)

    def always(self, trouble: Response) -> None:
        self._page(PAGE, trouble, priority=1)

    def grants(self, token: str) -> None:
        granted = {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
        self._stub("/oauth/token", {"jsonBody": granted}, method="POST", priority=1)

    def takes_only(self, token: str) -> None:
        """From the second page on: whatever was granted before has expired."""
        other = {"headers": {"Authorization": {"doesNotMatch": f"Bearer {token}"}}}
        self._page(PAGE, {"status": 401}, priority=1, request=other)

    def _page(self, start: int, response: Response, *, request: Mapping[str, Any] | None = None, **stub: Any) -> None:
        cursor = {"equalTo": str(start)} if start else {"absent": True}
        self._stub("/clients", response, request={"queryParameters": {"cursor": cursor}, **(request or {})}, **stub)

    def _stub(
        self,
        path: str,
        response: Response,
        *,
        method: str = "GET",
        request: Mapping[str, Any] | None = None,
        **stub: Any,
    ) -> None:
        asked = {"method": method, "urlPath": path, **(request or {})}
        answered = {"headers": {"Content-Type": "application/json"}, **response}
        self._http.post("/mappings", json={"request": asked, "response": answered, **stub}).raise_for_status()


@pytest.fixture(scope="module")
def wiremock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WireMock, int]]:
    port = local.free_port()
    command = ["java", "-jar", JAR, "--port", str(port), "--bind-address", local.HOST, "--disable-banner"]
    controls = httpx.Client(base_url=f"http://{local.HOST}:{port}/__admin", timeout=10, trust_env=False)
    with (tmp_path_factory.mktemp("wiremock") / "log").open("w") as log, controls:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            mock = WireMock(controls)
            local.wait_until(mock.up, within=60, what="WireMock")
            yield mock, port
        finally:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("before-wiremock")


@pytest.fixture(scope="module")
def stack(wiremock: tuple[WireMock, int], folder: Path) -> Iterator[Stack]:
    mock, port = wiremock
    mock.serve([])
    given = components(folder / "given")
    endpoints = (given / "endpoints.yaml").read_text().split("---\n")
    moved = [one.replace("localhost:8009", f"{local.HOST}:{port}") if "name: inn8" in one else one for one in endpoints]
    (given / "endpoints.yaml").write_text("---\n".join(moved))
    apps = [spec for spec in specs(folder) if spec.app_id in {"sandbox", DATASOURCE}]
    with Stack(apps=apps, components=given, run_dir=folder / "run", tools_bin=ROOT / "tools" / "bin") as running:
        yield running


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """What stands is started for this file alone."""


@pytest.fixture
def inn8(request: pytest.FixtureRequest, wiremock: tuple[WireMock, int]) -> WireMock:
    """Twelve clients, others for each test: three pages."""
    wiremock[0].serve(made("clients", 3 * PAGE, counts=ROWS, seed=crc32(request.node.name.encode())))
    return wiremock[0]


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(stack, DATASOURCE, bearer(stack, "admin")) as client:
        yield client


async def sync(admin: httpx.AsyncClient) -> dict[str, Any]:
    """A full run of the clients, to its end; no other is under way."""

    async def begun() -> httpx.Response | None:
        answer = await admin.post("/api/v1/sync/clients", params={"mode": "full"})
        return None if answer.status_code == 409 else answer.raise_for_status()

    answer = await eventually(begun, every=0.2)

    async def over() -> dict[str, Any] | None:
        log = (await admin.get(answer.headers["location"])).json()
        return log if log["endTime"] else None

    return await eventually(over, within=120, every=0.2)


def is_what_inn8_has(inn8: WireMock, folder: Path) -> bool:
    engine = sa.create_engine(f"sqlite:///{folder}/datasource.db")
    with engine.connect() as conn:
        found = conn.execute(sa.select(tables.clients).where(tables.clients.c.deleted_at.is_(None))).mappings().all()
    engine.dispose()
    theirs = {row["id"]: dict(transform(Entity.CLIENTS, row).values) for row in inn8.rows}
    columns = next(iter(theirs.values()))
    return {row["external_id"]: {name: row[name] for name in columns} for row in found} == theirs


def busy_lines(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stack.logs(DATASOURCE).splitlines() if "source.busy" in line]


@pytest.mark.parametrize("kind", ["seconds", "date"])
async def test_a_429_is_waited_out_for_as_long_as_it_says(
    kind: str, inn8: WireMock, stack: Stack, folder: Path, admin: httpx.AsyncClient
) -> None:
    before = len(busy_lines(stack))
    word = "3" if kind == "seconds" else format_datetime(now() + timedelta(seconds=4), usegmt=True)
    inn8.at_first({"status": 429, "headers": {"Retry-After": word}})

    assert (await sync(admin))["status"] == "Success"

    (waited,) = busy_lines(stack)[before:]
    assert waited["asked_for"]
    assert 1 <= waited["seconds"] <= 4
    assert is_what_inn8_has(inn8, folder)


DRIPS_SECONDS = (4, 12)  # of one page: within the ten that `inn8` has in components/resiliency.yaml, and beyond them


def dripping(inn8: WireMock, seconds: int) -> Response:
    page = {"items": inn8.rows[PAGE : 2 * PAGE], "next": str(2 * PAGE)}
    return {"jsonBody": page, "chunkedDribbleDelay": {"numberOfChunks": 8, "totalDuration": seconds * 1000}}


@pytest.mark.parametrize(
    "trouble",
    [
        {"status": 500},
        {"fault": "CONNECTION_RESET_BY_PEER"},
        {"fault": "EMPTY_RESPONSE"},
        {"fault": "RANDOM_DATA_THEN_CLOSE"},
    ],
    ids=lambda trouble: str(*trouble.values()),
)
async def test_what_goes_wrong_once_is_made_good(
    trouble: Response, inn8: WireMock, folder: Path, admin: httpx.AsyncClient
) -> None:
    inn8.at_first(trouble)

    assert (await sync(admin))["status"] == "Success"
    assert is_what_inn8_has(inn8, folder)


async def test_a_page_that_drips_is_waited_for(inn8: WireMock, folder: Path, admin: httpx.AsyncClient) -> None:
    inn8.at_first(dripping(inn8, DRIPS_SECONDS[0]))

    assert (await sync(admin))["status"] == "Success"
    assert is_what_inn8_has(inn8, folder)


# Of what breaks off in the middle of an answer the sidecar has handed on the beginning: it can't ask again.
@pytest.mark.parametrize("what", ["malformed chunk", "drips for too long", "random data, always"])
async def test_what_nobody_makes_good_fails_the_run_in_plain_words_and_a_later_one_is_right(
    what: str, inn8: WireMock, folder: Path, admin: httpx.AsyncClient
) -> None:
    message = "The source's answer can't be read."
    match what:
        case "malformed chunk":
            inn8.at_first({"fault": "MALFORMED_RESPONSE_CHUNK"})
        case "drips for too long":
            inn8.at_first(dripping(inn8, DRIPS_SECONDS[1]))
        case _:
            inn8.always({"fault": "RANDOM_DATA_THEN_CLOSE"})
            message = "The source can't be reached."

    failed = await sync(admin)

    assert (failed["status"], failed["errorMessage"], failed["recordCount"]) == ("Failed", message, PAGE)
    assert not is_what_inn8_has(inn8, folder)
    inn8.serve(inn8.rows)
    assert (await sync(admin))["status"] == "Success"
    assert is_what_inn8_has(inn8, folder)


async def test_a_token_that_expires_in_the_middle_of_a_run_is_followed_by_another(
    inn8: WireMock, folder: Path, admin: httpx.AsyncClient
) -> None:
    await sync(admin)
    token = new_id()
    inn8.serve(inn8.rows[:-1])
    inn8.grants(token)
    inn8.takes_only(token)

    log = await sync(admin)

    assert (log["status"], log["recordCount"], log["deleted"]) == ("Success", 3 * PAGE - 1, 1)
    assert is_what_inn8_has(inn8, folder)
