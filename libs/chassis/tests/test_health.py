"""What a service says of its dependencies: to whom, in which words, and how often it asks them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from chassis import health
from chassis.app import create_app
from chassis.db import Database
from chassis.health import Check, Health, usual_checks
from chassis.settings import ServiceSettings
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer

LIVE, READY, ALL = "/health/live", "/health/ready", "/health"


class Dependency:
    def __init__(self) -> None:
        self.up = True
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def probe(self) -> None:
        self.asked += 1
        await self.answers.wait()
        if not self.up:
            raise ConnectionError("postgresql://user:secret@db")


@pytest.fixture
def database() -> Dependency:
    return Dependency()


@pytest.fixture
def cache() -> Dependency:
    return Dependency()


@pytest.fixture
def checked(database: Dependency, cache: Dependency) -> Health:
    return Health(
        {"database": Check(probe=database.probe, required=True), "cache": Check(probe=cache.probe, required=False)}
    )


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture
async def client(checked: Health, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    settings = ServiceSettings(
        app_port=1, dapr_http_port=1, app_api_token="app-token-of-the-tests", auth_jwks_file=issuer.jwks_file
    )
    app = create_app(title="t", settings=settings, sidecar=FakeSidecar(), rules={}, health=checked, refusals={})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_staff_is_told_of_each_dependency(client: httpx.AsyncClient, issuer: Issuer, cache: Dependency):
    staff = issuer.bearer("staff")
    whole = (await client.get(ALL, headers=staff)).json()
    cache.up = False
    degraded = (await client.get(ALL, headers=staff)).json()

    assert (whole["status"], whole["description"]) == ("Healthy", "All systems operational")
    assert {name: check["status"] for name, check in whole["checks"].items()} == {
        "database": "Healthy",
        "cache": "Healthy",
    }
    assert all(check["latencyMs"] >= 0 for check in whole["checks"].values())
    assert (degraded["status"], degraded["description"]) == ("Degraded", "Some systems degraded")
    assert degraded["checks"]["cache"]["status"] == "Degraded"


async def test_everybody_else_is_told_one_word(client: httpx.AsyncClient, issuer: Issuer, database: Dependency):
    for headers in ({}, issuer.bearer("user")):
        assert (await client.get(ALL, headers=headers)).json() == {"status": "Healthy"}
    database.up = False
    for headers in ({}, issuer.bearer("user")):
        answer = await client.get(ALL, headers=headers)
        assert (answer.status_code, answer.json()["health"]) == (503, "Unhealthy")
        assert not {"checks", "description"} & set(answer.json())

    assert (await client.get(ALL, headers={"Authorization": "Bearer nonsense"})).status_code == 401


async def test_without_what_it_needs_it_is_unhealthy_not_ready_and_still_alive(
    client: httpx.AsyncClient, issuer: Issuer, database: Dependency
):
    database.up = False

    for path in (ALL, READY):
        answer = await client.get(path, headers=issuer.bearer("staff"))
        problem = answer.json()
        assert (answer.status_code, problem["errorType"], problem["health"]) == (503, "unhealthy", "Unhealthy")
        assert "secret" not in answer.text
    assert (await client.get(ALL, headers=issuer.bearer("staff"))).json()["description"] == "Health check failed"
    asked = database.asked
    assert (await client.get(LIVE)).json() == {"status": "ok"}
    assert database.asked == asked


async def test_without_what_it_can_do_without_it_is_ready_and_does_not_even_ask(
    client: httpx.AsyncClient, cache: Dependency
):
    cache.up = False

    ready = await client.get(READY)

    assert (ready.status_code, ready.json(), cache.asked) == (200, {"status": "Healthy"}, 0)


async def test_what_does_not_answer_is_down_and_is_asked_by_one_at_a_time(
    checked: Health, cache: Dependency, database: Dependency, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health, "_PROBE_SECONDS", 0.05)
    cache.answers.clear()

    reports = await asyncio.gather(*(checked.report() for _ in range(20)))

    assert {report.status for report in reports} == {"Degraded"}
    assert (cache.asked, database.asked) == (1, 1)
    cache.answers.set()
    assert (await checked.report()).status == "Healthy"


async def test_one_who_hangs_up_takes_nobody_elses_answer_along(checked: Health, cache: Dependency):
    cache.answers.clear()
    first = asyncio.create_task(checked.report())
    second = asyncio.create_task(checked.report())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    cache.answers.set()

    assert (await second).status == "Healthy"


class Counting(FakeSidecar):
    probes = 0

    async def probe_broker(self, pubsub: str, topic: str) -> None:
        self.probes += 1
        await super().probe_broker(pubsub, topic)


@pytest.mark.parametrize(("every", "probes"), [(10.0, 1), (0.0, 2)])
async def test_what_the_broker_answered_is_remembered_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float, probes: int
):
    monkeypatch.setattr(health, "_PUBLISH_EVERY", every)
    sidecar, db = Counting(), Database(f"sqlite:///{tmp_path}/test.db")
    await db.start()
    checked = Health(usual_checks(db=db, sidecar=sidecar, state_store="statestore", pubsub="pubsub"))

    first = await checked.report()
    sidecar.alive = False
    second = await checked.report()
    await db.stop()

    assert first.status == "Healthy"
    assert sidecar.probes == probes
    assert {name: check.status for name, check in (second.checks or {}).items()} == {
        "database": "Healthy",
        "cache": "Degraded",
        "broker": "Healthy" if probes == 1 else "Degraded",
        "sidecar": "Unhealthy",
    }
