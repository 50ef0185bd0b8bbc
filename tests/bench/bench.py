"""`make bench`: the order chain, what the edge adds to a request, notifications, and a history of a million of them.
JSON to var/, a table on screen."""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import against
import edge
import history
import notifications
import orders
import uvloop

from stack import postgres

PARTS = ("orders", "edge", "notifications", "history")
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    options = _options()
    if options.against:
        against.compare(options.against.resolve(), _AGAINST.parse_known_args()[1])
        return
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="brewline-bench-") as folder:
        for part in options.only or PARTS:
            figures |= _MEASURES[part](options, Path(folder))
    figures["machine"] = {"cores": os.cpu_count(), "python": platform.python_version(), "at": _now()}
    target = ROOT / "var" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    _show(figures)
    print(f"\nfigures: {target.relative_to(ROOT)}")


_AGAINST = argparse.ArgumentParser(add_help=False)
_AGAINST.add_argument("--against", type=Path, help="another checkout, set up: both are measured in turns, three times")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures Brewline on this machine.", parents=[_AGAINST])
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again (default: all)")
    parser.add_argument("--seconds", type=float, default=20, help="of each run with many at once (default 20)")
    parser.add_argument("--clients", type=int, default=16, help="at the same time (default 16)")
    parser.add_argument("--alone", type=int, default=200, help="orders one after another (default 200)")
    parser.add_argument("--bulk", type=int, default=5000, help="notifications at once (default 5000, at most 10000)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the history (default 1000000)")
    parser.add_argument("--pages", type=int, default=60, help="of the history, of each kind (default 60)")
    return parser.parse_args()


def _edge(_options: argparse.Namespace, _folder: Path) -> dict[str, Any]:
    print("the edge: what it adds to a request …", flush=True)
    return {"edge": asyncio.run(edge.measure(orders.BODY))}


def _notifications(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with postgres.running() as server:
        for name, url in _databases(server, folder, "notifications"):
            print(f"notifications to nowhere, {name} …", flush=True)
            measured = notifications.measure(url, folder, count=options.bulk, seconds=options.seconds)
            figures |= {f"{what}_{name}": row for what, row in uvloop.run(measured).items()}
    return figures


def _history(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with postgres.running() as server:
        began = time.monotonic()
        (_, lite), (_, pg) = databases = _databases(server, folder, "history")
        print(f"history: writing {options.rows} rows, twice …", flush=True)
        for url in (lite, pg):
            notifications.migrate(url)
        rows = folder / "history.db"
        history.fill_sqlite(rows, options.rows)
        history.fill_postgresql(pg, rows)
        filled = round(time.monotonic() - began)
        for name, url in databases:
            print(f"history: its pages, {name} …", flush=True)
            figures[name] = uvloop.run(history.measure(url, folder, rows, times=options.pages))
    return {"history": figures, "history_filled_s": filled}


def _databases(server: postgres.Postgres, folder: Path, name: str) -> list[tuple[str, str]]:
    return [("sqlite", f"sqlite:///{folder}/{name}.db"), ("postgresql", server.create(name))]


_MEASURES = {"orders": orders.measure, "edge": _edge, "notifications": _notifications, "history": _history}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _show(figures: dict[str, Any]) -> None:
    print(f"\n{'':28}{'count':>8}{'per s':>9}{'per core s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    for name, row in figures.items():
        if isinstance(row, dict) and {"p50_ms", "per_s"} & row.keys():
            told = (f"{row.get(key, ''):>{width}}" for key, width in _COLUMNS.items())
            print(f"{name:28}{''.join(told)}")
    if "edge" in figures:
        print(f"\n{'the edge, p50':32}{'with ms':>10}{'without ms':>12}{'adds ms':>9}")
        for route, row in figures["edge"].items():
            print(f"{route:32}{row['with_ms']:>10}{row['without_ms']:>12}{row['adds_ms']:>9}")
    if "memory_mb" in figures:
        print(f"\norder / floor: {figures['ratio_order_to_floor']}")
        print(f"\n{'':32}{'cpu ms an order':>16}{'memory MB':>11}")
        for name, size in figures["memory_mb"].items():
            print(f"{name:32}{figures['order_cpu_ms_each'].get(name, ''):>16}{size:>11}")
    for database, pages in figures.get("history", {}).items():
        print(f"\n{'history, ' + database + ': all, and the slowest':68}{'p50 ms':>9}{'p99 ms':>9}")
        for name in sorted(pages, key=lambda name: (name != "all", -pages[name]["p99_ms"]))[:_SLOWEST]:
            print(f"{name:68}{pages[name]['p50_ms']:>9}{pages[name]['p99_ms']:>9}")


_COLUMNS = {"count": 8, "per_s": 9, "per_core_s": 12, "p50_ms": 9, "p99_ms": 9}
_SLOWEST = 12


if __name__ == "__main__":
    sys.exit(main())
