"""What takes long: ten minutes of orders without a pause, a million orders and notifications in the tables, and two
replicas of each service."""

import argparse
import asyncio
import re
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import history
import orders
import turns
from load import Call, alone, many

from stack.sidecars import Stack

_MINUTES = 10
_SAMPLES = 5  # of each, in turns
_PAGES = ("order-service /api/v1/orders", "notification-service /api/v1/notifications")
# What an order leaves behind in each service's database, and is multiplied.
_KEPT = {"order": ("orders", "timeline"), "payment": ("payments", "moves")}
_TIME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}(?=-7[0-9a-f]{3}-)")  # of an id: milliseconds


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, part in {"replicas": _replicas, "steady": _steady, "million": _million}.items():
        with tempfile.TemporaryDirectory(dir=folder) as made:
            figures[name] = part(options, Path(made))
    return figures


def _replicas(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """On PostgreSQL; CPU is what an order costs in all."""
    found: dict[str, Any] = {}
    for count in (1, 2):
        print(f"PostgreSQL: {count} of each service …", flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            figures = turns.on_postgresql(options, Path(made), replicas=count)
        found[str(count)] = figures | {"cpu_ms": round(sum(figures["cpu_ms_each"].values()), 1)}
    return found | {"ratio_cpu": round(found["2"]["cpu_ms"] / found["1"]["cpu_ms"], 2)}


def _steady(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    async def by_minute() -> list[dict[str, float]]:
        async with orders.connected(running) as bench:
            await alone(bench.place, 30)
            minutes: list[dict[str, float]] = []
            for number in range(1, _MINUTES + 1):
                print(f"steady: minute {number} of {_MINUTES} …", flush=True)
                minutes.append(await many(bench.place, options.clients, options.minute) | memory())
            return minutes

    def memory() -> dict[str, float]:
        return {"memory_mb": sum(orders.memory_mb(running.memory()).values())}

    with orders.stack(folder, orders.on_sqlite(folder)) as running:
        minutes = asyncio.run(by_minute())
    return {"minutes": minutes, "ratio_last_to_first": round(minutes[-1]["per_s"] / minutes[0]["per_s"], 3)}


def _million(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """p50 of placing and of listing: two stacks at once, of which each is asked in turn, one with few rows."""
    few, much = folder / "few", folder / "much"
    for one in (few, much):
        one.mkdir()
    with orders.stack(much, orders.on_sqlite(much)) as running:
        asyncio.run(place_a_few(running))
    print(f"tables: writing {options.rows} orders and notifications …", flush=True)
    for service, tables in _KEPT.items():
        multiply(much / f"{service}.db", tables, options.rows)
    history.fill_sqlite(much / "notification.db", options.rows)
    print("tables: placing and listing, with few rows and with many …", flush=True)
    with orders.stack(few, orders.on_sqlite(few)) as first, orders.stack(much, orders.on_sqlite(much)) as second:
        return asyncio.run(_compared({"few": first, "many": second}, options))


async def place_a_few(running: Stack) -> None:
    async with orders.connected(running) as bench:
        await alone(bench.place, 10)
        await asyncio.sleep(orders.DELIVERED_WITHIN)
        await bench.to_inbox()


async def _compared(stacks: dict[str, Stack], options: argparse.Namespace) -> dict[str, Any]:
    took: dict[str, dict[str, list[float]]] = {name: {} for name in stacks}
    for _ in range(_SAMPLES):
        for name, running in stacks.items():
            async with orders.connected(running) as bench:
                await alone(bench.place, 10)
                calls: dict[str, Call] = {"POST /api/v1/orders": bench.place}
                calls |= {page.partition(" ")[2]: bench.page(*page.split()) for page in _PAGES}
                for what, call in calls.items():
                    took[name].setdefault(what, []).append((await alone(call, options.alone // 2))["p50_ms"])
    return {
        what: {name: round(sorted(took[name][what])[_SAMPLES // 2], 1) for name in stacks}
        | {"ratio": round(sorted(took["many"][what])[_SAMPLES // 2] / sorted(took["few"][what])[_SAMPLES // 2], 2)}
        for what in took["few"]
    }


def multiply(file: Path, tables: tuple[str, ...], count: int) -> None:
    """What the newest order left behind, `count` times, each a millisecond before the one after it: the time in every
    id is another, and so is every id."""
    with closing(sqlite3.connect(file)) as conn:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000"):
            conn.execute(f"PRAGMA {pragma}")
        with history.without_indexes(conn, history.IN_SQLITE), _numbers(conn, count):
            for table in tables:
                columns = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
                template = conn.execute(f"SELECT * FROM {table} ORDER BY rowid DESC LIMIT 1").fetchone()  # noqa: S608  ours
                conn.execute(
                    f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608  ours
                    f"SELECT {', '.join(_earlier(value) for value in template)} FROM numbers"
                )
        conn.commit()


@contextmanager
def _numbers(conn: sqlite3.Connection, count: int) -> Generator[None]:
    conn.execute("CREATE TEMP TABLE numbers (n INTEGER PRIMARY KEY)")
    conn.execute(
        "WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < ?) "
        "INSERT INTO numbers SELECT n FROM up",
        (count,),
    )
    yield


def _earlier(value: Any) -> str:
    """An SQL expression."""
    if not isinstance(value, str):
        return "NULL" if value is None else repr(value)
    told = "'" + value.replace("'", "''") + "'"
    for time in dict.fromkeys(_TIME.findall(value)):
        hexed = f"printf('%012x', {int(time.replace('-', ''), 16)} - n)"
        told = f"replace({told}, '{time}', substr({hexed}, 1, 8) || '-' || substr({hexed}, 9))"
    return told
