"""The service over a database in a temporary folder, beside a fake sidecar."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import orjson
import pytest
import sqlalchemy as sa
from dapr.ext.workflow import RetryPolicy, TaskFailedError

import backoffice
from backoffice import tables
from backoffice.app import create_app
from backoffice.clients import RowsNotRead
from backoffice.exports.workflow import ExportJobs
from backoffice.services import Services
from backoffice.settings import Settings
from chassis import migrations
from chassis.ids import new_id
from chassis.problems import Unavailable
from chassis.sidecar import Answer
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer
from stack.serving import serving

APP_TOKEN = "app-token-of-the-tests"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, migrated once for all tests."""
    path = tmp_path_factory.mktemp("migrated") / "backoffice.db"
    migrations.upgrade(f"sqlite:///{path}", backoffice, tables.metadata)
    return path


@pytest.fixture
def database(tmp_path: Path, migrated: Path) -> Path:
    copy = tmp_path / "backoffice.db"
    copy.write_bytes(migrated.read_bytes())
    return copy


@pytest.fixture
def sidecar() -> FakeSidecar:
    made = FakeSidecar()
    made.alive = True
    made.secrets |= {"link-key": "l" * 43}
    return made


@pytest.fixture(scope="session")
def by_sidecar() -> dict[str, str]:
    """The header by which our sidecar proves itself."""
    return {"dapr-api-token": APP_TOKEN}


@pytest.fixture
def settings(database: Path, issuer: Issuer) -> Settings:
    return Settings.model_validate(
        {
            "app_api_token": APP_TOKEN,
            "rate_limit": "",  # what the state store holds is looked at
            "auth_jwks_file": issuer.jwks_file,
            "BACKOFFICE_DATABASE_URL": f"sqlite:///{database}",
            "BACKOFFICE_STORAGE": f"file:{database.parent}/storage",
            "BACKOFFICE_EXPORT_PAGE": 2,
            "BACKOFFICE_EXPORT_FOLDER": str(database.parent / "exports"),
        }
    )


@pytest.fixture
def rows(database: Path) -> Callable[[str], list[Any]]:
    """What a query finds on disk, seen by a connection of its own."""

    def look(query: str) -> list[Any]:
        engine = sa.create_engine(f"sqlite:///{database}", poolclass=sa.pool.NullPool)
        with engine.connect() as conn:
            return list(conn.execute(sa.text(query)))

    return look


@pytest.fixture
def running(
    settings: Settings, sidecar: FakeSidecar, issuer: Issuer
) -> Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]:
    """The service, started and, when left, stopped; its client is an admin of `default`."""

    @asynccontextmanager
    async def run_service(**changed: Any) -> AsyncGenerator[httpx.AsyncClient]:
        app = create_app(settings.model_copy(update=changed), sidecar=sidecar)
        async with serving(app, issuer.bearer("admin", sub="a-1")) as client:
            yield client

    return run_service


@pytest.fixture
async def client(
    running: Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]],
) -> AsyncIterator[httpx.AsyncClient]:
    async with running() as client:
        yield client


# --- exports ---

COLUMNS = [{"name": "id", "kind": "text"}, {"name": "name", "kind": "text"}, {"name": "total", "kind": "number"}]


class Shop:
    """The order service, as `export-page` shows it: `rows` in the order of their ids, in pages of `limit` as asked."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.broken = 0  # how many answers are none

    def fill(self, count: int) -> None:
        self.rows = [[new_id(), f"Ada {number}", f"{number}.50"] for number in range(count)]

    def answer(self, wanted: dict[str, Any]) -> Answer:
        self.asked.append(wanted)
        if self.broken:
            self.broken -= 1
            return Answer(status=503, data={"errorType": "database-unavailable"})
        first = wanted["cursor"] is None
        behind = [row for row in self.rows if row[0] > (wanted["cursor"] or "")]
        page = behind[: wanted["limit"]]
        more = page[-1][0] if len(behind) > len(page) else None
        told = {"columns": COLUMNS if first else None, "total": len(self.rows) if first else None}
        return Answer(status=200, data={"items": page, "next": more, **told})


@pytest.fixture
def shop(sidecar: FakeSidecar) -> Shop:
    made = Shop()
    sidecar.answers["order-service/export-page"] = made.answer
    return made


_FAILURES = (RowsNotRead, Unavailable, OSError)


class Engine:
    """Dapr's workflow engine, played by hand: what an activity raises is tried again as often as the workflow says."""

    def __init__(self, exports: ExportJobs) -> None:
        self._exports = exports
        self._left = 0
        self._again: Any = None

    def call_activity(self, name: str, *, input: Any, retry_policy: RetryPolicy) -> tuple[Any, int]:  # noqa: A002
        assert name == "export_job_step"
        return orjson.loads(orjson.dumps(input)), retry_policy.max_number_of_attempts

    def continue_as_new(self, reference: Any) -> None:
        self._again = reference

    async def run(self, reference: Any, *, steps: int = 10_000) -> None:
        """To its end, or until it is killed after so many steps."""
        self._left, self._again = steps, reference
        while self._again is not None and self._left:
            story, self._again = self._exports.tell(cast("Any", self), self._again), None
            await self._tell(story)

    async def _tell(self, story: Generator[Any, Any, None]) -> None:
        with suppress(StopIteration):
            call, tries = next(story)
            while self._left:
                self._left -= 1
                try:
                    answer = await self._perform(call, tries)
                except _FAILURES:
                    call, tries = story.throw(TaskFailedError.__new__(TaskFailedError))
                else:
                    call, tries = story.send(answer)

    async def _perform(self, call: Any, tries: int) -> Any:
        for _ in range(tries - 1):
            with suppress(*_FAILURES):
                return await self._exports.perform(call)
        return await self._exports.perform(call)


class Exports:
    """The running back office's exports, as a test drives them."""

    def __init__(self, client: httpx.AsyncClient, sidecar: FakeSidecar) -> None:
        self.client, self._sidecar = client, sidecar
        transport = cast("Any", client._transport)
        self.made: Services = transport.app.state.services
        self.engine = Engine(self.made.exports)

    async def ask(self, **wanted: Any) -> str:
        """The id of a job for orders, as CSV where nothing else is wanted, whose workflow has been begun."""
        body = {"kind": "orders", "format": "csv"} | wanted
        answer = await self.client.post("/api/v1/exports", json=body)
        assert answer.status_code == 202, answer.text
        await self.made.tasks.drain(within=1)
        return answer.json()["jobId"]

    def reference(self, job_id: str) -> Any:
        (found,) = [given for _, given in self._sidecar.workflows.values() if given["id"] == job_id]
        return found

    async def run(self, job_id: str, *, steps: int = 10_000) -> dict[str, Any]:
        """The job, after its workflow has run to its end, or so many steps."""
        await self.engine.run(self.reference(job_id), steps=steps)
        return await self.job(job_id)

    async def job(self, job_id: str) -> dict[str, Any]:
        return (await self.client.get(f"/api/v1/jobs/{job_id}")).raise_for_status().json()

    async def file(self, job: dict[str, Any]) -> str:
        answer = await self.client.get(job["resultUrl"].removeprefix("http://localhost:8005"))
        return answer.raise_for_status().text

    async def stored(self) -> list[str]:
        return [one.name async for one in self.made.storage.list("exports")]


@pytest.fixture
def exports(client: httpx.AsyncClient, sidecar: FakeSidecar, shop: Shop) -> Exports:  # noqa: ARG001  has the rows
    return Exports(client, sidecar)
