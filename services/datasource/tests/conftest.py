"""The service over a database in a temporary folder, beside a sidecar behind which the sandbox's own INN8 answers."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import sqlalchemy as sa
from starlette.requests import Request

import datasource
from chassis import migrations
from chassis.sidecar import Answer
from datasource import tables
from datasource.app import assemble, create_app
from datasource.domain import Entity, Mode
from datasource.services import Services
from datasource.settings import Settings
from sandbox.inn8 import Inn8, Manner
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer
from stack.serving import serving

APP_TOKEN = "app-token-of-the-tests"
SECRET = "the-secret-of-inn8"
ROWS = {"clients": 12, "portfolios": 10, "securities": 4, "transactions": 23}


class Upstream(FakeSidecar):
    """A sidecar before INN8. What stands in `instead` is what the next calls of its lists get: an answer, or an error
    that is raised; None is INN8's own answer."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets = {"inn8-client-secret": SECRET}
        self.inn8 = Inn8(secret=SECRET, manner=Manner.model_validate({"rows": ROWS}))
        self.instead: list[Answer | Exception | None] = []
        self.granted = 0
        self.asked: list[str] = []  # of the lists

    async def invoke(
        self,
        app_id: str,
        method: str,
        body: Any = None,
        *,
        verb: str = "POST",
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        private: bool = False,
    ) -> Answer:
        self.require()
        if app_id == "inn8-token":
            assert private
            assert method == "oauth/token"
            return self._token(dict(form or {}))
        if app_id == "backoffice-service":  # is not there: what is set was known last
            return Answer(status=500, data={"errorCode": "ERR_DIRECT_INVOKE"})
        assert (app_id, verb, body) == ("inn8", "GET", None)
        self.asked.append(method)
        if self.instead and (instead := self.instead.pop(0)) is not None:
            if isinstance(instead, Exception):
                raise instead
            return instead
        return await self._listed(method, headers or {})

    def _token(self, form: Mapping[str, str]) -> Answer:
        assert (form["grant_type"], form["scope"]) == ("client_credentials", "api.read api.write")
        self.granted += 1
        response = self.inn8.grant(form["client_secret"], frozenset(form["scope"].split()))
        if response is None:
            return Answer(status=401, data={"error": "invalid_client"})
        return Answer(status=200, data=orjson.loads(response.body))

    async def _listed(self, method: str, headers: Mapping[str, str]) -> Answer:
        entity, _, query = method.partition("?")
        shown = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "GET", "query_string": query.encode(), "headers": shown}
        response = await self.inn8.listing(entity, Request(scope))
        retry_after = response.headers.get("retry-after", "")
        return Answer(status=response.status_code, data=orjson.loads(response.body), retry_after=retry_after)

    def customers(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event["subject"], event["data"]) for event in self.published]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, migrated once for all tests."""
    path = tmp_path_factory.mktemp("migrated") / "datasource.db"
    migrations.upgrade(f"sqlite:///{path}", datasource, tables.metadata)
    return path


@pytest.fixture
def database(tmp_path: Path, migrated: Path) -> Path:
    copy = tmp_path / "datasource.db"
    copy.write_bytes(migrated.read_bytes())
    return copy


@pytest.fixture
def sidecar() -> Upstream:
    return Upstream()


@pytest.fixture
def settings(database: Path, issuer: Issuer) -> Settings:
    """Pages of five, so that a few rows are several pages."""
    return Settings.model_validate(
        {
            "app_api_token": APP_TOKEN,
            "rate_limit": "",
            "auth_jwks_file": issuer.jwks_file,
            "DATASOURCE_DATABASE_URL": f"sqlite:///{database}",
            "DATASOURCE_PAGE_ROWS": 5,
        }
    )


class Made:
    """The service's parts without its HTTP and its jobs: nothing happens by itself. Waits are kept, not waited."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.syncs, self.db, self.runs = services.syncs, services.db, services.runs
        self.waited: list[float] = []

        async def sleep(seconds: float) -> None:
            self.waited.append(seconds)

        self.syncs._sleep = sleep

    async def sync(self, entity: Entity = Entity.CLIENTS, mode: str = "incremental", tenant: str = "default") -> Any:
        """A run by command, to its end: its log."""
        log_id, driving = await self.syncs.command(tenant, entity, Mode(mode))
        await driving
        return await self.runs.get(log_id)

    async def rows(self, entity: Entity, *, deleted: bool = False) -> dict[str, sa.RowMapping]:
        """By external id; without tombstones, or those alone."""
        table = tables.OF_ENTITY[entity]
        query = sa.select(table).where(table.c.deleted_at.is_not(None) if deleted else table.c.deleted_at.is_(None))
        found = await self.db.read(lambda conn: conn.execute(query).mappings().all())
        return {row["external_id"]: row for row in found}

    async def logs(self, **columns: Any) -> list[sa.RowMapping]:
        query = sa.select(tables.sync_logs).filter_by(**columns).order_by(tables.sync_logs.c.id)
        return [*await self.db.read(lambda conn: conn.execute(query).mappings().all())]

    async def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What is told, oldest first: the subject and its data."""
        query = sa.select(tables.outbox.c.aggregate_id, tables.outbox.c.data).order_by(tables.outbox.c.seq)
        found = await self.db.read(lambda conn: conn.execute(query).all())
        return [(row.aggregate_id, orjson.loads(row.data)) for row in found]


@asynccontextmanager
async def _parts(settings: Settings, sidecar: Upstream) -> AsyncGenerator[Made]:
    services = assemble(settings, sidecar)
    services.secrets.update(sidecar.secrets)
    await services.db.start()
    try:
        yield Made(services)
    finally:
        await services.tasks.drain(within=0)
        await services.db.stop()


@pytest.fixture
def parts(settings: Settings, sidecar: Upstream) -> Callable[..., AbstractAsyncContextManager[Made]]:
    """A process, as often as one is started; `changed` are settings."""
    return lambda **changed: _parts(settings.model_copy(update=changed), sidecar)


@pytest.fixture
async def made(parts: Callable[..., AbstractAsyncContextManager[Made]]) -> AsyncIterator[Made]:
    async with parts() as made:
        yield made


@pytest.fixture
def running(
    settings: Settings, sidecar: Upstream, issuer: Issuer
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
    """The first sync, which begins with the service, is through."""
    async with running() as client:
        await eventually(lambda: synced(client), every=0.02)
        yield client


async def synced(client: httpx.AsyncClient) -> bool:
    logs = (await client.get("/api/v1/sync/logs", params={"status": "Success"})).json()["items"]
    return {log["entityType"] for log in logs} == {entity.type for entity in Entity}
