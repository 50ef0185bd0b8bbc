"""Recurring work beside real sidecars: a health check that is a workflow, and one run at a time, of all replicas."""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from itertools import pairwise

from brewery import ORDER, PAYMENT, Brewery, bearer, client_of, replicas

from stack.eventually import eventually


async def test_health_is_checked_by_a_workflow_and_kept(brew: Brewery) -> None:
    def kept() -> int:
        return len(brew.rows(ORDER, "SELECT * FROM health_results WHERE status = 'Healthy'"))

    before = await eventually(kept)  # at start, by itself
    async with client_of(brew.stack, ORDER, bearer(brew.stack, "admin", sub="boss")) as admin:
        assert (await admin.post("/api/v1/recurring/HealthMonitor/run")).status_code == 202
        await eventually(lambda: kept() > before)
        items = (await admin.get("/api/v1/recurring")).json()["items"]
    assert {item["name"] for item in items} >= {"PendingOrderProcessor", "HealthMonitor", "MetricsCollector"}
    assert next(item for item in items if item["name"] == "HealthMonitor")["runs"][0]["by"] == "boss"


async def test_asked_for_at_every_replica_at_once_runs_never_overlap(brew: Brewery) -> None:
    admin, path = bearer(brew.stack, "admin", sub="boss"), "/api/v1/recurring/reconcile-payments/run"
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(client_of(brew.stack, name, admin))
            for name in replicas(brew.stack, PAYMENT) * 4
        ]

        async def taken() -> bool:
            answers = await asyncio.gather(*(client.post(path) for client in clients))
            assert {answer.status_code for answer in answers} <= {202, 409}
            return any(answer.status_code == 202 for answer in answers)

        for _ in range(3):
            await eventually(taken)  # none is while one that the clock began is under way

        async def runs() -> list[tuple[datetime, datetime]]:
            items = (await clients[0].get("/api/v1/recurring")).json()["items"]
            [found] = [item["runs"] for item in items if item["name"] == "reconcile-payments"]
            found = [run for run in found if run["by"] == "boss"]
            assert {run["status"] for run in found} == {"completed"}
            began = [datetime.fromisoformat(run["startedAt"]) for run in found]
            ends = [at + timedelta(milliseconds=run["durationMs"]) for at, run in zip(began, found, strict=True)]
            return sorted(zip(began, ends, strict=True))

        spans: list[tuple[datetime, datetime]] = await eventually(runs)
    assert len(spans) >= 3
    assert all(end <= following for (_, end), (following, _) in pairwise(spans))
