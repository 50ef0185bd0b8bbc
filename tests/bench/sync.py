"""The data source: so many clients of INN8's in a first sync, and in one that finds nothing changed.

INN8 is the sandbox, in a process of its own; ours and dlt, which does the same job, are each in another, that asks it
over HTTP, without a sidecar, and writes into a database of its own.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop
from in_process import unheard
from peers import run

import datasource
from chassis import migrations
from chassis.sidecar import Answer
from datasource import tables
from datasource.app import assemble
from datasource.domain import Entity, Mode, SyncLog
from datasource.settings import Settings
from stack import postgres
from stack.fake_sidecar import FakeSidecar

SECRET = "inn8-secret-of-the-bench"


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """By who and database: rows a second of both runs, and the process's resident memory at most."""
    part = folder / "sync"
    part.mkdir()
    told = {"SANDBOX_INN8_CLIENT_SECRET": SECRET, "SANDBOX_INN8_ROWS": json.dumps({"clients": options.customers})}
    figures: dict[str, Any] = {}
    with postgres.running(under=Path(tempfile.gettempdir())) as server, run.sandbox(part, **told) as inn8:
        for who, command in {"ours": [sys.executable, Path(__file__)], "dlt": run.dlt_sync()}.items():
            databases = {"SQLite": f"sqlite:///{part}/{who}.db", "PostgreSQL": server.create(f"sync_{who}")}
            for database, url in databases.items():
                print(f"{options.customers} clients of INN8's, {who}, {database} …", flush=True)
                done = subprocess.run([*command, url, inn8.url, SECRET], check=True, capture_output=True, cwd=part)
                figures[f"{who}, {database}"] = _row(orjson.loads(done.stdout.splitlines()[-1]), options.customers)
    return {"sync": figures}


def _row(said: Mapping[str, Any], wanted: int) -> dict[str, float]:
    assert said["rows"] == wanted, said
    first, same = (round(wanted / seconds) for seconds in said["seconds"])
    return {"first_per_s": first, "same_per_s": same, "first_mb": said["mb"][0], "peak_mb": said["mb"][1]}


# --- ours, in a process of its own ------------------------------------------------------------------------------------


class Straight(FakeSidecar):
    """A sidecar that hands INN8's answers through, by the HTTP client that asks the real one, and keeps no event."""

    def __init__(self, inn8: aiohttp.ClientSession) -> None:
        super().__init__()
        self._inn8 = inn8

    async def invoke(
        self,
        app_id: str,  # noqa: ARG002
        method: str,
        body: Any = None,  # noqa: ARG002
        *,
        verb: str = "POST",
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        private: bool = False,  # noqa: ARG002  the real one's signature
    ) -> Answer:
        async with self._inn8.request(verb, f"/{method}", headers=headers, data=form) as answer:
            return Answer(status=answer.status, data=orjson.loads(await answer.read()))

    async def publish(self, pubsub: str, topic: str, events: list[dict[str, Any]]) -> dict[str, str]:  # noqa: ARG002
        return {}


async def _sync(url: str, inn8: str, secret: str) -> dict[str, Any]:
    migrations.upgrade(url, datasource, tables.metadata)
    settings = Settings.model_validate({"app_api_token": "of-the-bench-alone", "DATASOURCE_DATABASE_URL": url})
    seconds: list[float] = []
    megabytes: list[float] = []
    async with aiohttp.ClientSession(inn8) as client:
        made = assemble(settings, Straight(client))
        made.secrets["inn8-client-secret"] = secret
        await made.db.start()
        relay = asyncio.create_task(made.outbox.run())
        logs: list[SyncLog] = []
        for _ in range(2):
            began = time.perf_counter()
            log_id, driving = await made.syncs.command("default", Entity.CLIENTS, Mode.FULL)
            await driving
            seconds.append(time.perf_counter() - began)
            megabytes.append(_resident())
            logs.append(await made.runs.get(log_id))
        relay.cancel()
        await made.db.stop()
    first, same = logs
    assert first.inserted == same.unchanged, logs
    return {"rows": same.records, "seconds": seconds, "mb": megabytes}


def _resident() -> float:
    """At most, until now; in MB."""
    status = Path("/proc/self/status").read_text()  # what `getrusage` says begins with what the parent had
    return round(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6, 1)


if __name__ == "__main__":
    with unheard():
        found = uvloop.run(_sync(*sys.argv[1:]))
    print(json.dumps(found))
