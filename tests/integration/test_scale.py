"""Two replicas of every service and sidecar on the components of production: what is told of one order stays in order,
replicas share the work, and one that dies takes nothing with it."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import production
import psycopg
import pytest
from brewery import (
    BACKOFFICE,
    DATASOURCE,
    NOTIFICATION,
    ORDER,
    PAYMENT,
    PUBLIC,
    SERVICES,
    Brewery,
    bearer,
    client_of,
    order_body,
    replicas,
)
from conftest import QUICK, ROOT, components, specs

from chassis.ids import new_id
from stack import prometheus
from stack.eventually import eventually
from stack.kafka import PARTITIONS, Kafka
from stack.local import free_port
from stack.postgres import Postgres
from stack.sidecars import AppSpec, Stack

pytestmark = production.marks()

HEARER = "plain"  # an app of another team that may hear `orders`
LAG = "Events: age of the last one heard"


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heard") / "orders.jsonl"


@pytest.fixture(scope="module")
def otlp_port() -> int:
    return free_port()


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """The stack of these tests is its own."""


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Kafka, Postgres]]:
    with production.engines() as running:
        yield running


@pytest.fixture(scope="module")
def broker(engines: tuple[Kafka, Postgres]) -> Kafka:
    return engines[0]


@pytest.fixture(scope="module")
def stack(
    engines: tuple[Kafka, Postgres], otlp_port: int, heard: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    broker, database = engines
    folder = tmp_path_factory.mktemp("scale")
    given = components(folder / "given")
    state_url = database.create("state")
    production.put(given, production.BROKER, *production.STORES, brokers=broker.address, state_url=state_url)
    apps = specs(folder, database.create, times=QUICK)
    apps += [replace(spec, name=f"{spec.name}-2") for spec in apps if spec.app_id in SERVICES]
    hearer = AppSpec(app_id=HEARER, module="hearer", env={"PYTHONPATH": str(Path(__file__).parent)})
    apps += [
        replace(
            hearer, name=f"hearer-{number}", env={**hearer.env, "HEARER_REPLICA": number, "HEARER_FILE": str(heard)}
        )
        for number in ("1", "2")
    ]
    with pytest.MonkeyPatch.context() as environment:
        for name, value in prometheus.exported_to(otlp_port).items():
            environment.setenv(name, value)
        with Stack(apps=apps, components=given, run_dir=folder, tools_bin=production.TOOLS) as running:
            yield running


@pytest.fixture
async def brew(stack: Stack) -> AsyncIterator[Brewery]:
    async with (
        client_of(stack, ORDER, bearer(stack, "staff"), timeout=60) as api,
        client_of(stack, "sandbox") as sandbox,
    ):
        yield Brewery(stack, api, sandbox)


async def orders_at_both(brew: Brewery, count: int) -> list[str]:
    """Placed at one replica of order and the other in turn, eight at a time; their ids."""
    lanes = asyncio.Semaphore(8)
    async with client_of(brew.stack, f"{ORDER}-2", dict(brew.api.headers), timeout=60) as second:

        async def place(number: int) -> str:
            async with lanes:
                client = (brew.api, second)[number % 2]
                answer = await client.post(PUBLIC, json=order_body())
            assert answer.status_code in {201, 202}, answer.text
            return answer.json()["id"]

        return await asyncio.gather(*(place(number) for number in range(count)))


async def all_done(brew: Brewery, order_ids: list[str], *, within: float) -> None:
    """Each is confirmed, charged once, and its one mail is there."""
    for order_id in order_ids:
        await brew.becomes(order_id, status="confirmed", within=within)
    mails: dict[str, set[str]] = {}

    async def mailed() -> bool:
        inbox = await brew.listed("inbox")
        mails.update({each: {mail["messageId"] for mail in inbox if each in mail["text"]} for each in order_ids})
        return all(mails.values())

    await eventually(mailed, within=within, every=1)
    assert {order_id: len(sent) for order_id, sent in mails.items() if len(sent) != 1} == {}
    charged: dict[str, list[str]] = defaultdict(list)
    for entry in await brew.listed("ledger"):
        charged[entry["orderId"]].append(entry["kind"])
    assert [order_id for order_id in order_ids if charged[order_id] != ["charge"]] == []


async def members(broker: Kafka, group: str) -> list[str]:
    """Who reads each partition of `orders`."""
    lag = await asyncio.to_thread(broker.lag, group)  # it takes seconds, and others go on meanwhile
    return [each.member for each in lag if each.topic == "orders" and each.member]


async def shared_by(broker: Kafka, group: str, replicas: int) -> list[str]:
    async def found() -> list[str]:
        owners = await members(broker, group)
        return owners if (len(owners), len(set(owners))) == (PARTITIONS, replicas) else []

    return await eventually(found, within=90, every=1)


async def test_what_is_told_of_an_order_stays_in_order_and_replicas_share_the_work(
    brew: Brewery, broker: Kafka, heard: Path
) -> None:
    order_ids = await orders_at_both(brew, 80)
    await all_done(brew, order_ids, within=120)

    def all_heard() -> list[dict[str, Any]]:
        told = [each for each in production.heard(heard) if each["subject"] in set(order_ids)]
        return told if len({each["id"] for each in told}) >= 2 * len(order_ids) else []

    told = await eventually(all_heard, within=60)
    by_order: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in told:
        by_order[each["subject"]].append(each)
    assert {len({each["partition"] for each in events}) for events in by_order.values()} == {1}
    assert [each for each in by_order.values() if (seen := versions(each)) != sorted(seen)] == []
    assert {each["partition"] for each in told} == {str(number) for number in range(PARTITIONS)}
    assert {each["replica"] for each in told} == {"1", "2"}

    # Each replica has half of the partitions, and has handled events.
    for app_id in (NOTIFICATION, HEARER):
        owners = await shared_by(broker, app_id, 2)
        assert {owners.count(owner) for owner in owners} == {PARTITIONS // 2}
    for name in replicas(brew.stack, NOTIFICATION):
        async with client_of(brew.stack, name, dict(brew.api.headers)) as client:
            ops = (await client.get("/api/v1/ops")).json()
        assert "orders" in [last["topic"] for last in ops["handled"]]


def versions(events: list[dict[str, Any]]) -> list[int]:
    return [event["version"] for event in events]


async def test_a_killed_replica_loses_nothing_and_its_return_doubles_nothing(
    brew: Brewery, broker: Kafka, heard: Path
) -> None:
    """SIGKILL to one replica of every service and its sidecar under load; so its partitions move, and move back."""
    stopped = asyncio.Event()
    placed: list[str] = []

    async def customer() -> None:
        while not stopped.is_set():
            answer = await brew.api.post(PUBLIC, json=order_body())
            assert answer.status_code in {201, 202}, answer.text
            placed.append(answer.json()["id"])

    async with asyncio.TaskGroup() as customers:
        for _ in range(3):
            customers.create_task(customer())
        await eventually(lambda: len(placed) > 20)
        before = await members(broker, NOTIFICATION)
        second = [f"{app_id}-2" for app_id in (ORDER, PAYMENT, NOTIFICATION, BACKOFFICE, DATASOURCE)]
        for name in (*second, "hearer-2"):
            brew.stack.kill_app(name)
            brew.stack.kill_sidecar(name)
        # The living take over what the dead had: Kafka gives them 10 s.
        await shared_by(broker, NOTIFICATION, 1)
        await asyncio.to_thread(brew.stack.heal)
        again = await shared_by(broker, NOTIFICATION, 2)
        after = len(placed)
        await eventually(lambda: len(placed) > after + 20)
        stopped.set()
    assert set(again) != set(before)
    await all_done(brew, placed, within=180)
    assert {each["subject"] for each in production.heard(heard)} >= set(placed)
    twice = "SELECT subject_id FROM notifications GROUP BY subject_id, template, channel HAVING count(*) > 1"
    assert [row for row in brew.rows(NOTIFICATION, twice) if row["subject_id"] in set(placed)] == []


async def test_a_partition_that_lags_is_seen_on_the_dashboard(
    brew: Brewery, heard: Path, otlp_port: int, tmp_path: Path
) -> None:
    """Somebody holds the row by which notification would know one event: it can't be taken, nor what comes after it in
    its partition. All others go on."""
    [panel] = [
        each
        for each in json.loads((ROOT / "observability" / "grafana-dashboard.json").read_text())["panels"]
        if each["title"] == LAG
    ]
    targets = [brew.stack.sidecar_metrics(name) for name in brew.stack.apps]
    stuck, subject = new_id(), new_id()
    with prometheus.running(tmp_path, tools_bin=production.TOOLS, port=otlp_port, targets=targets) as metrics:

        def ages() -> dict[str, float]:
            answer = metrics.get("/api/v1/query", params={"query": panel["targets"][0]["expr"]})
            found = answer.raise_for_status().json()["data"]["result"]
            series = [each for each in found if each["metric"].get("job") == NOTIFICATION]
            return {each["metric"]["partition"]: float(each["value"][1]) for each in series if is_of_orders(each)}

        url = brew.stack.apps[NOTIFICATION].env["NOTIFICATION_DATABASE_URL"]
        with psycopg.connect(url) as holder:
            holder.execute(
                "INSERT INTO event_processing (tenant, consumer, source, event_id, processed_at)"
                " VALUES ('default', 'notification.orders', %s, %s, now())",
                (ORDER, stuck),
            )
            await publish_again(brew, (await orders_at_both(brew, 1))[0], event_id=stuck, subject=subject)
            where = await heard_in(heard, subject)
            seen = await eventually(lambda: found if (found := ages()).get(where, 0) > 20 else {}, within=120, every=1)
            assert {partition for partition, age in seen.items() if age > 15} == {where}
            # Orders in the other partitions get their mails; those in that one wait.
            order_ids = await orders_at_both(brew, 40)
            waiting = [each for each in order_ids if await heard_in(heard, each) == where]
            assert 0 < len(waiting) < 20
            for order_id in set(order_ids) - set(waiting):
                assert await brew.mailed(order_id)
            assert [each for each in waiting if await brew.mails(each)] == []
            holder.rollback()
        await all_done(brew, order_ids, within=120)
        # The next ones show that nothing waits any more.
        await orders_at_both(brew, 40)
        await eventually(lambda: max(ages().values()) < 5, within=90, every=1)


def is_of_orders(series: dict[str, Any]) -> bool:
    return series["metric"].get("topic") == "orders" and "partition" in series["metric"]


def partition_of(heard: Path, subject: str) -> str:
    return next((each["partition"] for each in production.heard(heard) if each["subject"] == subject), "")


async def heard_in(heard: Path, subject: str) -> str:
    return await eventually(lambda: partition_of(heard, subject), within=60)


async def publish_again(brew: Brewery, order_id: str, *, event_id: str, subject: str) -> None:
    """An order's confirmation under another id and subject, as the relay publishes."""
    query = "SELECT * FROM outbox WHERE aggregate_id = ? AND type = 'order.confirmed.v1'"
    row = (await eventually(lambda: brew.rows(ORDER, query, order_id)))[0]
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": ORDER,
        "type": row["type"],
        "subject": subject,
        "time": datetime.now(UTC).isoformat(),
        "tenantid": "default",
        "data": orjson.loads(row["data"]),
    }
    url = f"{brew.stack.sidecar_url(ORDER)}/v1.0/publish/pubsub/orders?metadata.partitionKey={subject}"
    headers = {"content-type": "application/cloudevents+json", "dapr-api-token": brew.stack.dapr_token}
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.post(url, content=orjson.dumps(event), headers=headers)).raise_for_status()
