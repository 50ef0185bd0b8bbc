"""The back office: a million orders exported, how many a second and in what memory, and uploads at once."""

import argparse
import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import full
import httpx
import orders
import psutil
from memory import watched
from peers.run import Sandbox
from uploads import upload_at_once

from stack.eventually import eventually
from stack.sidecars import Stack

_FORMATS = ("csv", "xlsx")
_SERVICE = "backoffice-service"
_WITHIN = 3600  # seconds


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Of orders as the order service leaves them, `options.rows` in its table."""
    part = folder / "exports"
    part.mkdir()
    databases = orders.on_sqlite(part, (*orders.SERVICES, "backoffice"))
    with orders.stack(part, databases) as running:
        asyncio.run(full.place_a_few(running))
    print(f"exports: writing {options.rows} orders …", flush=True)
    full.multiply(part / "order.db", ("orders",), options.rows)
    with orders.stack(part, databases) as running:
        return {"exports": asyncio.run(_each(running))}


def measure_uploads(_options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    async def measured() -> dict[str, float]:
        async with _connected(running) as client:
            return await upload_at_once(client, _process(running), uploads=8, size=10 * 2**20)

    print("uploads: eight of 10 MB at once …", flush=True)
    part = folder / "uploads"
    part.mkdir()
    with orders.stack(part, orders.on_sqlite(part, ("backoffice",))) as running:
        return {"uploads": asyncio.run(measured())}


async def _each(running: Stack) -> dict[str, dict[str, float]]:
    """By format."""
    found: dict[str, dict[str, float]] = {}
    async with _connected(running) as client:
        for how in _FORMATS:
            print(f"exports: all orders, {how} …", flush=True)
            found[how] = await export_orders(client, _process(running), how)
    return found


async def export_orders(client: httpx.AsyncClient, process: psutil.Process, how: str) -> dict[str, float]:
    """`client` calls the back office as an admin, whose process `process` is. Rows, seconds from the job's start to its
    end, rows a second, the process's resident memory in MB."""
    async with watched(process) as memory:
        asked = await client.post("/api/v1/exports", json={"kind": "orders", "format": how})
        path = f"/api/v1/jobs/{asked.raise_for_status().json()['jobId']}"

        async def ended() -> dict[str, Any] | None:
            job = (await client.get(path)).raise_for_status().json()
            return job if job["completedAt"] else None

        job = await eventually(ended, within=_WITHIN, every=0.5)
    assert job["status"] == "Completed", job
    rows = job["progress"]["done"]
    seconds = (datetime.fromisoformat(job["completedAt"]) - datetime.fromisoformat(job["startedAt"])).total_seconds()
    return {"rows": rows, "seconds": round(seconds, 1), "rows_per_s": round(rows / seconds), **memory}


def _process(running: Stack) -> psutil.Process:
    return psutil.Process(running.pids()[_SERVICE])


@asynccontextmanager
async def _connected(running: Stack) -> AsyncGenerator[httpx.AsyncClient]:
    async with aiohttp.ClientSession() as session:
        bearer = await Sandbox(url=running.url("sandbox"), smtp_port=0).bearer(session, "admin")
    headers = {"Authorization": bearer}
    async with httpx.AsyncClient(
        base_url=running.url(_SERVICE), headers=headers, timeout=60, trust_env=False
    ) as client:
        yield client
