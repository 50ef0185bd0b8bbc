"""What each service says of its dependencies while one of them is gone."""

import asyncio
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from brewery import BACKOFFICE, NOTIFICATION, ORDER, PAYMENT, SERVICES, bearer, client_of
from psycopg import sql

from stack.eventually import eventually
from stack.sidecars import Stack

USUAL = {"database", "cache", "broker", "sidecar"}


async def health(stack: Stack, app_id: str, path: str = "/health") -> httpx.Response:
    async with client_of(stack, app_id, bearer(stack, "staff")) as client:
        return await client.get(path)


def words(answer: httpx.Response) -> dict[str, str]:
    return {name: check["status"] for name, check in answer.json()["checks"].items()}


@pytest.mark.only_on("sqlite")
async def test_without_cache_and_broker_every_service_is_degraded_and_goes_on(stack: Stack) -> None:
    whole = await eventually(lambda: _healthy(stack, BACKOFFICE))
    assert set(whole["checks"]) == USUAL
    stack.freeze_app("redis")
    try:
        asked = (ORDER, PAYMENT, NOTIFICATION)

        async def degraded() -> list[httpx.Response]:
            """What the broker said last is believed for ten seconds."""
            found = await asyncio.gather(*(health(stack, app_id) for app_id in asked))
            assert all(words(answer)["broker"] != "Healthy" for answer in found)
            return found

        answers = await eventually(degraded, within=20)
        ready = [await health(stack, app_id, "/health/ready") for app_id in asked]
    finally:
        stack.thaw_app("redis")

    for app_id, answer in zip(asked, answers, strict=True):
        assert (answer.status_code, answer.json()["description"]) == (200, "Some systems degraded"), app_id
        down = {name for name, word in words(answer).items() if word != "Healthy"}
        assert down == {"cache", "broker"}, app_id
        assert answer.json()["checks"]["cache"]["latencyMs"] >= 1900
    assert [answer.status_code for answer in ready] == [200, 200, 200]
    await eventually(lambda: _cached(stack, ORDER))


@pytest.mark.only_on("postgresql")
async def test_without_its_database_a_service_is_unhealthy_and_still_alive(stack: Stack) -> None:
    url = sa.make_url(stack.apps[BACKOFFICE].env["BACKOFFICE_DATABASE_URL"])
    owner = url.set(database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(owner, autocommit=True) as connection:
        database = sql.Identifier(url.database or "")
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(database))
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.database])
        try:
            down = await health(stack, BACKOFFICE)
            ready, live = [await health(stack, BACKOFFICE, f"/health/{path}") for path in ("ready", "live")]
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))

    assert (down.status_code, down.json()["health"], words(down)["database"]) == (503, "Unhealthy", "Unhealthy")
    assert down.json()["description"] == "Health check failed"
    assert (ready.status_code, live.status_code) == (503, 200)
    await eventually(lambda: _healthy(stack, BACKOFFICE))


@pytest.mark.only_on("sqlite")
async def test_a_caller_who_is_not_staff_gets_one_word(stack: Stack) -> None:
    for app_id in SERVICES:
        for headers in ({}, bearer(stack, "user")):
            async with client_of(stack, app_id, headers) as client:
                assert set((await client.get("/health")).json()) == {"status"}


async def _healthy(stack: Stack, app_id: str) -> dict[str, Any]:
    report = (await health(stack, app_id)).json()
    assert report["status"] == "Healthy", report
    return report


async def _cached(stack: Stack, app_id: str) -> bool:
    return words(await health(stack, app_id))["cache"] == "Healthy"
