"""An admin clears what the own tenant has in a service's caches, by what its keys begin with."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from chassis.app import create_app
from chassis.cache import Cache
from chassis.changes.feed import Changes, changes_table
from chassis.db import Database
from chassis.health import Health
from chassis.leases import Leases, leases_table
from chassis.settings import ServiceSettings
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer

METADATA = sa.MetaData()
TABLE = changes_table(METADATA)
LEASES = leases_table(METADATA)
CLEAR = "/api/v1/cache/clear"
Running = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache]:
    db = Database(f"sqlite:///{tmp_path / 'test.db'}")
    await db.start()
    await db.write(METADATA.create_all)
    changes = Changes(db=db, table=TABLE, leases=Leases(db, LEASES))
    yield Cache(sidecar=FakeSidecar(), store="cache", changes=changes, name="things")
    await db.stop()


@pytest.fixture
def running(issuer: Issuer) -> Running:
    """A service with these caches, as an admin of tenant `default` reaches it."""

    @asynccontextmanager
    async def run(*caches: Cache) -> AsyncGenerator[httpx.AsyncClient]:
        given = {
            "app_port": 1,
            "dapr_http_port": 1,
            "app_api_token": "app-token-of-the-tests",
            "auth_jwks_file": issuer.jwks_file,
        }
        settings = ServiceSettings.model_validate(given)
        app = create_app(
            title="test",
            settings=settings,
            sidecar=FakeSidecar(),
            rules={},
            health=Health({}),
            refusals={},
            caches=caches,
        )
        transport, headers = httpx.ASGITransport(app), issuer.bearer("admin", tenant="default")
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            yield client

    return run


def loads_of(cache: Cache) -> Callable[..., Awaitable[list[str]]]:
    """Which of some keys are loaded when they are asked for."""

    async def look(*keys: str) -> list[str]:
        loaded: list[str] = []

        async def load(key: str) -> Any:
            loaded.append(key)

        for key in keys:
            await cache.get_or_load(key, lambda key=key: load(key))
        return loaded

    return look


async def test_what_begins_with_the_pattern_is_loaded_anew_and_only_the_callers_tenants(cache: Cache, running: Running):
    keys = ("default:templates:a", "default:routes:a", "other:templates:a")
    loads = loads_of(cache)
    assert await loads(*keys) == [*keys]
    async with running(cache) as admin:
        cleared = await admin.post(CLEAR, params={"pattern": "templates:*"})
        assert (cleared.status_code, cleared.json()) == (200, {"pattern": "templates:*", "caches": ["things"]})
        assert await loads(*keys) == ["default:templates:a"]

        assert (await admin.post(CLEAR)).json()["pattern"] == "*"
        assert await loads(*keys) == ["default:templates:a", "default:routes:a"]


@pytest.mark.parametrize("pattern", ["", "**", "routes:a*b", "templates", "routes:\x00*", "x" * 100 + "*"])
async def test_only_a_prefix_with_its_star_is_a_pattern(cache: Cache, running: Running, pattern: str):
    async with running(cache) as admin:
        refused = await admin.post(CLEAR, params={"pattern": pattern})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "?pattern")


async def test_where_nothing_is_cached_there_is_nothing_to_clear_and_staff_clears_nowhere(
    running: Running, issuer: Issuer
):
    async with running() as admin:
        assert (await admin.post(CLEAR)).json() == {"pattern": "*", "caches": []}
        refused = await admin.post(CLEAR, headers=issuer.bearer("staff"))
    assert (refused.status_code, refused.json()["errorType"]) == (403, "role-missing")
