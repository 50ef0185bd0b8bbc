"""The workflow engine's reminders end with their workflows, whatever dies on the way.

Runtime 1.18.2 can leave a reminder behind that then fires every second for ever: where the result of a step arrives
after its instance was purged. The retention policy purges an hour after the end, and a step is given up after 8 s.
"""

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
import yaml
from brewery import ORDER, Brewery, bearer, client_of, workflows
from conftest import ROOT, specs

from chassis.takeover import instance_id
from order.saga import OrderRef
from stack.eventually import eventually
from stack.sidecars import Stack

pytestmark = pytest.mark.chaos
SAGAS, KILLS, QUIET = 100, 5, 30
RETENTION = "2s"  # so that purges meet the restarts
OUTAGE = {"mode": "error", "status": 503}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("reminders")
    components = folder / "given"
    shutil.copytree(ROOT / "components", components)
    config = yaml.safe_load((components / "config.yaml").read_text())
    config["spec"]["workflow"]["stateRetentionPolicy"] = {"completed": RETENTION, "anyTerminal": RETENTION}
    (components / "config.yaml").write_text(yaml.safe_dump(config))
    apps = specs(folder)
    with Stack(apps=apps, components=components, run_dir=folder, tools_bin=ROOT / "tools" / "bin") as running:
        yield running


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """No weather here: what stands is started for this test alone."""


async def test_no_reminder_outlives_the_purge_of_its_saga(stack: Stack, sandbox: httpx.AsyncClient):
    async with client_of(stack, ORDER, bearer(stack, "staff")) as api:
        brew = Brewery(stack, api, sandbox)
        for provider in await brew.payment_providers():
            await brew.fault(provider, **OUTAGE)
        orders = [await brew.place_async(id=f"c-{number}") for number in range(SAGAS)]
        await eventually(lambda: all_present(stack, orders), within=60, every=1)
        await brew.fair()
        for _ in range(KILLS):
            await asyncio.to_thread(stack.kill_sidecar, ORDER)
            await asyncio.to_thread(stack.start_sidecar, ORDER)
            await asyncio.sleep(3)  # the work goes on for a while, until the next one

        await eventually(lambda: all_purged(stack, orders), within=120, every=1)

        assert {(await brew.order(order_id))["status"] for order_id in orders} == {"confirmed"}
        assert await triggered(stack) > 2 * SAGAS  # the sagas were driven by reminders
        before = await triggered(stack)
        await asyncio.sleep(QUIET)
        assert await triggered(stack) == before


async def all_present(stack: Stack, orders: list[str]) -> bool:
    return (await states(stack, orders))["RUNNING"] == len(orders)


async def all_purged(stack: Stack, orders: list[str]) -> bool:
    return (await states(stack, orders))["purged"] == len(orders)


async def states(stack: Stack, orders: list[str]) -> Counter[str]:
    """Of the workflows of these orders."""
    found: Counter[str] = Counter()
    async with workflows(stack) as client:
        for order_id in orders:
            answer = await client.get(instance_id(OrderRef(tenant="default", id=order_id)))
            assert answer.status_code in (200, 404), answer.text
            found["purged" if answer.status_code == 404 else answer.json()["runtimeStatus"]] += 1
    return found


async def triggered(stack: Stack) -> float:
    """How often the scheduler has called an actor: workflows, their steps and their purges."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(stack.scheduler_metrics_url())).text
    counts = re.findall(r'^dapr_scheduler_jobs_triggered_total\{.*type="actor".*\} (\S+)$', text, re.MULTILINE)
    return sum(map(float, counts))
