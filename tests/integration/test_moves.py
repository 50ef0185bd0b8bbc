"""From Redis to Kafka, and from Redis to PostgreSQL, while orders come in: as docs/operations.md says, and nothing is
lost and nothing doubled."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import production
import pytest
import yaml
from brewery import NOTIFICATION, ORDER, PAYMENT, PUBLIC, SERVICES, Brewery, bearer, client_of, order_body, workflows
from conftest import QUICK, components, specs

import moving
from chassis.ids import new_id
from chassis.story import Reference
from chassis.takeover import instance_id
from stack.eventually import eventually
from stack.kafka import Kafka
from stack.postgres import Postgres
from stack.sidecars import Stack

pytestmark = production.marks()


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """The stack of these tests is its own."""


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Kafka, Postgres]]:
    with production.engines() as running:
        yield running


@pytest.fixture(scope="module")
def state_url(engines: tuple[Kafka, Postgres]) -> str:
    return engines[1].create("state")


@pytest.fixture(scope="module")
def stack(engines: tuple[Kafka, Postgres], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """On Redis, as components/ has it."""
    folder = tmp_path_factory.mktemp("moves")
    apps = specs(folder, engines[1].create, times=QUICK)
    given = components(folder / "given")
    with Stack(apps=apps, components=given, run_dir=folder, tools_bin=production.TOOLS) as running:
        yield running


@pytest.fixture
async def brew(stack: Stack) -> AsyncIterator[Brewery]:
    async with (
        client_of(stack, ORDER, bearer(stack, "staff"), timeout=60) as api,
        client_of(stack, "sandbox") as sandbox,
    ):
        yield Brewery(stack, api, sandbox)


class Customers:
    """They order for as long as they are there. Whoever is refused, or hears nothing, asks again with the same key."""

    def __init__(self, brew: Brewery, count: int = 2) -> None:
        self.placed: list[str] = []
        self._brew, self._count = brew, count
        self._leaving = asyncio.Event()

    async def __aenter__(self) -> "Customers":
        self._running = [asyncio.create_task(self._order()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leaving.set()
        await asyncio.gather(*self._running)

    async def _order(self) -> None:
        while not self._leaving.is_set():
            self.placed.append(await ordered(self._brew, new_id()))
            await asyncio.sleep(0.2)  # a pace, and no wait for anything


async def ordered(brew: Brewery, key: str, **wanted: Any) -> str:
    async def taken() -> str:
        try:
            answer = await brew.api.post(PUBLIC, json=order_body(**wanted), headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return ""
        assert answer.status_code in {200, 201, 202, 409, 503}, answer.text
        return answer.json()["id"] if answer.status_code < 300 else ""

    return await eventually(taken, within=120, every=0.3)


def restart_sidecars(stack: Stack, names: Sequence[str]) -> None:
    """One after the other, as a rolling update does; killed, which is worse than what that does."""
    for name in names:
        stack.kill_sidecar(name)
        stack.start_sidecar(name)


async def all_done(brew: Brewery, order_ids: Sequence[str]) -> None:
    for order_id in order_ids:
        await brew.becomes(order_id, status="confirmed", within=180)
    inbox: list[dict[str, Any]] = []

    async def mailed() -> bool:
        inbox[:] = await brew.listed("inbox")
        return all(any(order_id in mail["text"] for mail in inbox) for order_id in order_ids)

    await eventually(mailed, within=180, every=1)
    for order_id in order_ids:
        assert len({mail["messageId"] for mail in inbox if order_id in mail["text"]}) == 1
    entries = await brew.listed("ledger")
    charges = {order_id: [one["kind"] for one in entries if one["orderId"] == order_id] for order_id in order_ids}
    assert {order_id: kinds for order_id, kinds in charges.items() if kinds != ["charge"]} == {}
    # Not one event of any of them is left: every one was published, and notification has taken it.
    assert brew.rows(ORDER, "SELECT 1 FROM outbox WHERE published_at IS NULL") == []
    told = brew.rows(ORDER, "SELECT event_id, aggregate_id FROM outbox WHERE type = 'order.confirmed.v1'")
    events = [row["event_id"] for row in told if row["aggregate_id"] in set(order_ids)]
    assert len(events) == len(order_ids)
    assert brew.processed(events)


def undelivered(port: int) -> dict[str, tuple[int, int]]:
    """By stream and group what was never delivered and what was not acknowledged: `XINFO GROUPS`."""
    found: dict[str, tuple[int, int]] = {}
    for topic in moving.topics():
        words = redis_cli(port, "XINFO", "GROUPS", topic).splitlines()
        group: dict[str, str] = {}
        for name, value in zip(words[::2], words[1::2], strict=False):
            group = {name: value} if name == "name" else group | {name: value}
            if name == "lag":  # the last that is told of a group
                found[f"{topic} {group['name']}"] = (int(value or 0), int(group["pending"]))
    return {name: waiting for name, waiting in found.items() if waiting != (0, 0)}


def redis_cli(port: int, *words: str) -> str:
    return subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, text=True, check=True).stdout


def redis_port(stack: Stack) -> int:
    former = yaml.safe_load((stack.run_dir / "given" / "pubsub.yaml").read_text())
    assert former["spec"]["type"] == "pubsub.redis"
    rendered = (stack.run_dir / "components" / "former.yaml").read_text()
    found = re.search(r"127\.0\.0\.1:(\d+)", rendered)
    assert found is not None
    return int(found[1])


async def test_from_redis_streams_to_kafka(brew: Brewery, engines: tuple[Kafka, Postgres], state_url: str) -> None:
    stack, folder = brew.stack, brew.stack.run_dir / "components"
    async with Customers(brew) as customers:
        # Events lie in Redis whom nobody has heard.
        stack.kill_app(NOTIFICATION)
        stack.kill_sidecar(NOTIFICATION)
        await eventually(lambda: len(customers.placed) >= 10, within=60)

        # The broker of until now, under another name, and everybody's subscriptions there.
        former = yaml.safe_load((folder / "pubsub.yaml").read_text())
        former["metadata"]["name"] = moving.FORMER
        (folder / "former.yaml").write_text(yaml.safe_dump(former))
        (folder / "former-subscriptions.yaml").write_text(yaml.safe_dump_all(moving.subscriptions()))
        production.put(folder, production.BROKER, brokers=engines[0].address, state_url=state_url)
        assert undelivered(redis_port(stack))  # or this shows nothing
        for name in SERVICES:
            if name != NOTIFICATION:
                await asyncio.to_thread(restart_sidecars, stack, [name])
        after = len(customers.placed)
        await eventually(lambda: len(customers.placed) >= after + 10, within=60)  # they are told of in Kafka
        await asyncio.to_thread(stack.heal)
        await eventually(lambda: undelivered(redis_port(stack)) == {}, within=120, every=1)
    await all_done(brew, customers.placed)

    # Nothing is left there: it may go.
    (folder / "former.yaml").unlink()
    (folder / "former-subscriptions.yaml").unlink()
    async with Customers(brew) as customers:
        await asyncio.to_thread(restart_sidecars, stack, SERVICES)
        await eventually(lambda: len(customers.placed) >= 5, within=60)
    await all_done(brew, customers.placed)

    async def nothing_waits() -> bool:
        lag = await asyncio.to_thread(engines[0].lag, NOTIFICATION)
        return bool(lag) and sum(each.waiting for each in lag) == 0

    await eventually(nothing_waits, within=60)


async def is_running(engine: httpx.AsyncClient, order_id: str) -> bool:
    told = await engine.get(instance_id(Reference(tenant="default", id=order_id)))
    return told.status_code == 200 and told.json().get("runtimeStatus") == "RUNNING"


async def test_from_redis_to_postgresql_with_sagas_under_way(
    brew: Brewery, engines: tuple[Kafka, Postgres], state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, folder = brew.stack, brew.stack.run_dir / "components"
    port = re.search(r"127\.0\.0\.1:(\d+)", (folder / "statestore.yaml").read_text())
    assert port is not None
    monkeypatch.setenv("STATE_DATABASE_URL", state_url)
    known_key, waiting_keys = new_id(), [new_id() for _ in range(5)]
    known = await ordered(brew, known_key)
    # No provider answers: their sagas wait in the engine, on timers.
    for provider in await brew.payment_providers():
        await brew.fault(provider, mode="error", status=503)
    waiting = await asyncio.gather(*(ordered(brew, key) for key in waiting_keys))
    async with workflows(stack) as engine:
        for order_id in waiting:
            await eventually(lambda order_id=order_id: is_running(engine, order_id), within=60, every=0.5)

    async with Customers(brew) as customers:
        production.put(folder, *production.STORES, brokers=engines[0].address, state_url=state_url)
        await asyncio.to_thread(restart_sidecars, stack, [each for each in SERVICES if each != PAYMENT])
        copied = moving.copy_idempotency(f"127.0.0.1:{port[1]}", state_url)
        assert copied >= 1 + len(waiting_keys)
        await asyncio.to_thread(restart_sidecars, stack, [PAYMENT])
        await brew.fair()
        await eventually(lambda: len(customers.placed) >= 10, within=120)
    # A key from before the move still means the order that it meant, and a second copy changes nothing.
    assert await ordered(brew, known_key) == known
    assert [await ordered(brew, key) for key in waiting_keys] == waiting
    assert moving.copy_idempotency(f"127.0.0.1:{port[1]}", state_url) == 0
    await all_done(brew, [known, *waiting, *customers.placed])
