"""One limit, two replicas, and the real state store between them."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from brewery import NOTIFICATION, bearer, client_of
from conftest import ROOT, specs

from stack.eventually import eventually
from stack.sidecars import Stack

LIST = "/api/v1/notifications"
LIMIT = 100
REPLICAS = (NOTIFICATION, "another")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("limits")
    (folder / "data").mkdir()
    apps = {spec.app_id: spec for spec in specs(folder / "data")}
    first = apps[NOTIFICATION]
    # A day, so that no window ends in the middle of a test.
    limited = {**first.env, "RATE_LIMIT": f"{LIMIT}/day"}
    database = {"NOTIFICATION_DATABASE_URL": f"sqlite:///{folder}/data/another.db"}
    replicas = [replace(first, env=limited), replace(first, name=REPLICAS[1], env=limited | database)]
    with Stack(
        apps=[apps["sandbox"], *replicas],
        components=ROOT / "components",
        run_dir=folder,
        tools_bin=ROOT / "tools" / "bin",
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """No weather here: what stands is started for these tests alone."""


async def statuses(client: httpx.AsyncClient, times: int) -> list[int]:
    return [answer.status_code for answer in await asyncio.gather(*(client.get(LIST) for _ in range(times)))]


async def test_two_replicas_together_admit_exactly_the_limit(stack: Stack) -> None:
    token = bearer(stack, "user", sub="busy")
    async with client_of(stack, REPLICAS[0], token) as one, client_of(stack, REPLICAS[1], token) as two:
        seen = [*await statuses(one, 20), *await statuses(two, 20)]
        assert set(seen) == {200}
        for both in await asyncio.gather(statuses(one, 40), statuses(two, 40)):
            seen += both
        while set(last := [*await statuses(one, 1), *await statuses(two, 1)]) != {429}:  # what either has in hand still
            seen += last
        assert set(seen) <= {200, 429}
        assert seen.count(200) == LIMIT

        refused = await one.get(LIST)
        assert refused.json()["errorType"] == "rate-limited"
        assert 0 < int(refused.headers["retry-after"]) <= 86400
        assert refused.headers["ratelimit-policy"] == f'"default";q={LIMIT};w=86400'
        assert refused.headers["ratelimit"].startswith('"default";r=0;t=')


async def test_another_caller_another_tenant_and_another_route_have_limits_of_their_own(stack: Stack) -> None:
    async with client_of(stack, NOTIFICATION, bearer(stack, "user", sub="greedy")) as client:
        assert (await statuses(client, LIMIT + 1)).count(429) == 1
        assert (await client.get(f"{LIST}/none")).status_code == 404
    for other in (bearer(stack, "user", sub="frugal"), bearer(stack, "user", sub="greedy", tenant="acme")):
        async with client_of(stack, NOTIFICATION, other) as client:
            assert (await client.get(LIST)).status_code == 200


async def test_without_the_store_everybody_is_let_in_and_it_is_logged(stack: Stack) -> None:
    async with client_of(stack, NOTIFICATION, bearer(stack, "user", sub="anybody")) as client:
        stack.stop_redis(kill=True)
        try:
            assert set(await statuses(client, 3)) == {200}
        finally:
            stack.start_redis()
        assert "limiter.without_store" in stack.logs(NOTIFICATION)

        async def counted() -> bool:
            return "ratelimit" in (await client.get(LIST)).headers

        await eventually(counted, within=30)
