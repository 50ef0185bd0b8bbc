"""The order service's recurring work: health kept over time, and what each hour came to. And its routes."""

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import structlog

from chassis.db import Database
from chassis.health import Check, Health
from chassis.ids import first_id, new_id
from chassis.story import Reference
from chassis.tasks import Tasks
from order.health_monitor import WORKFLOW, Checked, HealthMonitor, Kept
from order.hourly_metrics import MetricsCollector
from order.saga import Approved, OrderRef
from order.tables import health_results, orders, timeline
from stack.eventually import eventually
from stack.fake_sidecar import FakeSidecar
from stack.issuer import Issuer

Placed = Callable[..., Awaitable[OrderRef]]
PAID = Approved(payment_id="p-1", transaction_id="tx-1")
RECURRING = "/api/v1/recurring"


# --- health ---


class Dependency:
    down = False

    async def __call__(self) -> None:
        if self.down:
            raise RuntimeError


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


@pytest.fixture
def monitor(db: Database, sidecar: FakeSidecar, dependency: Dependency) -> HealthMonitor:
    health = Health({"cache": Check(probe=dependency, required=False)})
    return HealthMonitor(db=db, sidecar=sidecar, health=health, tasks=Tasks())


async def test_health_is_kept_each_time_and_only_a_change_is_told(
    monitor: HealthMonitor, dependency: Dependency, rows: Callable[[str], list[Any]]
):
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with structlog.testing.capture_logs() as logs:
        outcomes: list[Any] = []
        for down in (False, False, True, True, False):
            dependency.down = down
            outcomes.append(await monitor.saga.run_inline(Reference(tenant="", id=new_id())))

    assert [one.before for one in outcomes] == [None, None, "Healthy", None, "Degraded"]
    kept = rows("SELECT * FROM health_results ORDER BY id")
    assert [(row.status, bool(row.changed)) for row in kept][:3] == [
        ("Healthy", False),
        ("Healthy", False),
        ("Degraded", True),
    ]
    told = [(line["before"], line["status"]) for line in logs if line["event"] == "health.changed"]
    assert told == [("Healthy", "Degraded"), ("Degraded", "Healthy")]


async def test_a_check_performed_twice_is_kept_once(monitor: HealthMonitor, db: Database):
    check, found = Reference(tenant="", id=new_id()), Checked(status="Healthy", checks={})
    run: Any = None

    assert [await monitor.keep(check, found, run) for _ in range(2)] == [Kept(), Kept()]

    assert len(await db.read(lambda conn: list(conn.execute(sa.select(health_results))))) == 1


async def test_the_monitor_begins_a_workflow_of_which_there_is_one(monitor: HealthMonitor, sidecar: FakeSidecar):
    await monitor.begin()
    await monitor.begin()

    assert [name for name, _ in sidecar.workflows.values()] == [WORKFLOW]
    assert monitor.job().every == timedelta(minutes=5)


# --- hours ---


@pytest.fixture
def collector(db: Database) -> MetricsCollector:
    return MetricsCollector(db)


HOUR = datetime(2026, 3, 1, 10, tzinfo=UTC)


@pytest.fixture
def placed_at(placed: Placed, db: Database) -> Callable[..., Awaitable[str]]:
    """An order that was placed at that time: its id says so."""

    async def place(at: datetime, *args: Any, took: float = 1.0, **changed: Any) -> str:
        ref, order_id = await placed(*args), f"{first_id(at.timestamp())[:24]}{new_id()[24:]}"

        def move(conn: sa.Connection) -> None:
            conn.execute(sa.update(orders).where(orders.c.id == ref.id).values(id=order_id, **changed))
            its = timeline.c.order_id == ref.id
            conn.execute(sa.update(timeline).where(its).values(order_id=order_id, duration_ms=took))

        await db.write(move)
        return order_id

    return place


async def test_an_hour_is_its_orders_by_status_its_revenue_and_the_p95_of_each_step(
    collector: MetricsCollector, placed_at: Callable[..., Awaitable[str]]
):
    paid = {"status": "confirmed", "payment_status": "succeeded"}
    for minute, took in enumerate((10.0, 20.0, 30.0, 40.0)):
        await placed_at(HOUR + timedelta(minutes=minute), took=took, **paid)
    await placed_at(HOUR + timedelta(minutes=59), "tea", took=50.0, status="payment_failed", payment_status="declined")

    await collector.collect()

    [hour] = await collector.page("default", before=None, limit=5)
    assert (hour.hour, hour.orders, hour.by_status) == (HOUR, 5, {"confirmed": 4, "payment_failed": 1})
    assert [money.model_dump(mode="json") for money in hour.revenue] == [{"amount": "16.00", "currency": "USD"}]
    assert hour.p95_ms == {"place": 50.0}


async def test_missed_hours_are_made_up_once_each_tenant_apart_and_the_present_one_waits(
    collector: MetricsCollector, placed_at: Callable[..., Awaitable[str]], placed: Placed
):
    for hours, tenant in ((0, "default"), (0, "acme"), (30, "default")):
        await placed_at(HOUR + timedelta(hours=hours), tenant=tenant)
    await placed()

    await collector.collect()
    await placed_at(HOUR + timedelta(minutes=5))
    await collector.collect()

    hours = [hour.hour for hour in await collector.page("default", before=None, limit=5)]
    assert hours == [HOUR + timedelta(hours=30), HOUR]
    assert [hour.orders for hour in await collector.page("acme", before=None, limit=5)] == [1]
    assert [hour.hour for hour in await collector.page("default", before=hours[0], limit=5)] == [HOUR]


# --- routes ---


async def test_staff_reads_hours_and_a_bad_cursor_is_refused(client: httpx.AsyncClient):
    assert (await client.get("/api/v1/metrics/hourly")).json() == {"items": [], "next": None}

    refused = await client.get("/api/v1/metrics/hourly", params={"cursor": "x"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "?cursor")


async def test_an_admin_of_the_operators_tenant_sees_recurring_work_and_runs_it_and_nobody_else(
    running: Callable[..., Any], sidecar: FakeSidecar, issuer: Issuer
):
    async with running(sidecar, operator_tenant="ops") as client:
        admin = issuer.bearer("admin", sub="boss", tenant="ops")

        async def last_runs() -> list[Any]:
            items = (await client.get(RECURRING, headers=admin)).json()["items"]
            found = next(item for item in items if item["name"] == "MetricsCollector")
            assert (found["schedule"], found["paused"]) == ("@every 3600s", False)
            return [run for run in found["runs"] if run["status"] == "completed"]

        await eventually(last_runs, every=0.01)
        begun = await client.post(f"{RECURRING}/MetricsCollector/run", headers=admin)
        assert (begun.status_code, begun.json()) == (202, {"name": "MetricsCollector"})
        newest = await eventually(lambda: with_two(last_runs), every=0.01)
        assert [run["by"] for run in newest] == ["boss", "start"]
        assert (await client.post(f"{RECURRING}/nothing/run", headers=admin)).json()["errorType"] == "job-not-found"
        for other in (issuer.bearer("admin", tenant="default"), issuer.bearer("staff", tenant="ops")):
            assert (await client.get(RECURRING, headers=other)).status_code == 403
            assert (await client.post(f"{RECURRING}/MetricsCollector/run", headers=other)).status_code == 403


async def with_two(last_runs: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
    runs = await last_runs()
    return runs if len(runs) == 2 else []
