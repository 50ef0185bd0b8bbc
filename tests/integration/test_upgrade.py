"""A release whose story is another, rolled out over sagas that wait, and rolled back."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from brewery import ORDER, Brewery, bearer, client_of
from conftest import QUICK, ROOT, components, specs
from test_reminders import OUTAGE, all_present

from stack.eventually import eventually
from stack.sidecars import Stack

SAGAS = 100
CHANGED = (sys.executable, str(Path(__file__).with_name("order_changed.py")))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("upgrade")
    given = components(folder / "given")
    apps = [spec for spec in specs(folder, times=QUICK) if spec.app_id in {"sandbox", "payment-service", ORDER}]
    with Stack(apps=apps, components=given, run_dir=folder, tools_bin=ROOT / "tools" / "bin") as running:
        yield running


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """What stands is started for this file alone."""


async def test_sagas_that_wait_go_on_over_an_upgrade_and_a_rollback(stack: Stack, sandbox: httpx.AsyncClient) -> None:
    async with client_of(stack, ORDER, bearer(stack, "staff")) as api:
        brew = Brewery(stack, api, sandbox)
        before = await waiting(brew, SAGAS)
        await roll(stack, CHANGED, latest="2")
        # The engine answers 500 for a moment where it reads a saga that is just being written.
        await eventually(lambda: all_present(stack, before), within=10, every=0.5)
        after = await waiting(brew, 3)
        await brew.fair()

        await eventually(lambda: confirmed(brew, before + after), within=60, every=0.5)
        assert thanked(stack, after) == len(after)
        assert thanked(stack, before) == 0

        # Back to the release that knew the version already, and began nothing with it.
        late = await waiting(brew, 3)
        await roll(stack, CHANGED, latest="1")
        new = await waiting(brew, 1)
        await brew.fair()
        await eventually(lambda: confirmed(brew, late + new), within=60, every=0.5)
        assert thanked(stack, late) == len(late)
        assert thanked(stack, new) == 0


async def waiting(brew: Brewery, count: int) -> list[str]:
    """Orders whose charge nobody knows, each with its durable driver."""
    for provider in await brew.payment_providers():
        await brew.fault(provider, **OUTAGE)
    placed = [await brew.place_async(id=f"c-{number}") for number in range(count)]
    await eventually(lambda: all_present(brew.stack, placed), within=60, every=0.5)
    return placed


async def roll(stack: Stack, command: Sequence[str], *, latest: str) -> None:
    stack.kill_app(ORDER)
    spec = stack.apps[ORDER]
    stack.apps[ORDER] = replace(spec, command=command, env={**spec.env, "LATEST": latest})
    await asyncio.to_thread(stack.start_app, ORDER)


async def confirmed(brew: Brewery, orders: list[str]) -> bool:
    for order_id in orders:
        assert (await brew.order(order_id))["status"] == "confirmed"
        assert await brew.ledger(order_id) == ["charge"]
    return True


def thanked(stack: Stack, orders: list[str]) -> int:
    log = stack.logs(ORDER).splitlines()
    return len({order_id for order_id in orders for line in log if "order.thanked" in line and order_id in line})
