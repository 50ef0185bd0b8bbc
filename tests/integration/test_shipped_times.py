"""Where all times are as shipped: half a minute of an open breaker, and of the lease of whoever died."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from brewery import NOTIFICATION, PAYMENT, Brewery, Notices
from conftest import ROOT, specs
from test_breaker import is_open, lets_through
from test_communications_crashes import address_of, asked, slow

from stack.eventually import eventually
from stack.postgres import Postgres
from stack.sidecars import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres_server: Postgres) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("shipped")
    apps = specs(folder, lambda name: postgres_server.create(f"shipped_{name}"))
    with Stack(apps=apps, components=ROOT / "components", run_dir=folder, tools_bin=ROOT / "tools" / "bin") as running:
        yield running


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """What stands is started for this file alone."""


async def test_a_breaker_is_open_and_what_a_dead_replica_had_is_its_own_for_half_a_minute(
    brew: Brewery, notices: Notices
) -> None:
    opened, leased = await asyncio.gather(seconds_open(brew.stack), seconds_leased(brew, notices))

    assert 25 < opened < 45
    assert 25 < leased < 45


async def seconds_open(stack: Stack) -> float:
    """Of the breaker between order and payment, from the third failure to the first call that gets through."""
    stack.kill_app(PAYMENT)
    await eventually(lambda: is_open(stack), every=0.1)
    began = time.monotonic()
    await asyncio.to_thread(stack.start_app, PAYMENT)
    await eventually(lambda: lets_through(stack), within=60, every=0.5)
    return time.monotonic() - began


async def seconds_leased(brew: Brewery, notices: Notices) -> float:
    """From the moment in which a message was taken in hand to its second copy."""
    person = await notices.recipient()
    await slow(brew, "smtp", ms=1000)
    began = time.monotonic()
    await notices.send(person)
    await asked(brew, "smtp")
    brew.stack.freeze_app(NOTIFICATION)  # it doesn't hear that the server has taken it
    await eventually(lambda: brew.inbox(address_of(person)))
    await brew.fair()
    brew.stack.kill_app(NOTIFICATION)
    await asyncio.to_thread(brew.stack.start_app, NOTIFICATION)
    await brew.arrived(address_of(person), 2, within=60)
    return time.monotonic() - began
