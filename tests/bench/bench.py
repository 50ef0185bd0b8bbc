"""`make bench`: the judge. An order in every load, ours beside two durable engines in turns, what the edge adds, the
catalog and live orders, notifications, uploads and exports. JSON and a report with plots to var/bench/, a table on
screen; `publish` writes docs/performance.md."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import against
import catalog
import edge
import exports
import full
import history
import notifications
import orders
import report
import sync
import turns
import uvloop
import versions

from stack import postgres

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    options = _options()
    if options.against:
        against.compare(options.against.resolve(), _AGAINST.parse_known_args()[1])
        return
    began = time.monotonic()
    figures: dict[str, Any] = {"machine": versions.described(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    parts = options.only or [*_ALWAYS, *(_IN_FULL if "full" in options.also else {})]
    with tempfile.TemporaryDirectory(prefix="brewline-bench-") as folder:
        for part in parts:
            figures |= _MEASURES[part](options, Path(folder))
    figures["took_s"] = round(time.monotonic() - began)
    target = ROOT / "var" / "bench"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("latest", figures["at"].replace(":", "")):
        (target / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    report.show(figures)
    print(f"\nfigures: {(target / 'latest.json').relative_to(ROOT)}; it took {figures['took_s']} s")
    if {"turns", "order_many"} <= figures.keys():
        written = report.write(figures, ROOT / "docs" if "publish" in options.also else target)
        print(f"report: {written.relative_to(ROOT)}")


_AGAINST = argparse.ArgumentParser(add_help=False)
_AGAINST.add_argument("--against", type=Path, help="another checkout, set up: both are measured in turns, three times")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures Brewline on this machine.", parents=[_AGAINST])
    parser.add_argument(
        "also",
        nargs="*",
        metavar="full|publish",
        help="full: also ten minutes without a pause, a million rows and two replicas; publish: docs/performance.md",
    )
    parser.add_argument("--only", choices=_MEASURES, action="append", help="this part; may be given again")
    parser.add_argument("--seconds", type=float, default=8, help="of each run with many at once (default 8)")
    parser.add_argument("--clients", type=int, default=16, help="at the same time (default 16)")
    parser.add_argument("--alone", type=int, default=120, help="orders one after another (default 120)")
    parser.add_argument("--bulk", type=int, default=2000, help="notifications at once (default 2000, at most 10000)")
    parser.add_argument("--rounds", type=int, default=3, help="of ours and the engines, in turns (default 3)")
    parser.add_argument("--minute", type=float, default=60, help="seconds of each of the ten (default 60)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of orders, and of the history (default 1000000)")
    parser.add_argument("--readers", type=int, default=1000, help="of live orders at once (default 1000)")
    parser.add_argument("--customers", type=int, default=100_000, help="of INN8's, synchronised (default 100000)")
    parser.add_argument("--pages", type=int, default=60, help="of the history, of each kind (default 60)")
    options = parser.parse_args()
    if wrong := set(options.also) - {"full", "publish"}:
        parser.error(f"neither full nor publish: {', '.join(sorted(wrong))}")
    return options


def _edge(_options: argparse.Namespace, _folder: Path) -> dict[str, Any]:
    print("the edge: what it adds to a request …", flush=True)
    return {"edge": asyncio.run(edge.measure(orders.BODY))}


def _catalog(options: argparse.Namespace, _folder: Path) -> dict[str, Any]:
    print(f"the featured products, then {options.readers} who watch orders …", flush=True)
    return uvloop.run(catalog.measure(orders.BODY, times=2000, readers=options.readers, orders=10))


def _notifications(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with postgres.running(under=Path(tempfile.gettempdir())) as server:
        for name, url in _databases(server, folder, "notifications"):
            print(f"notifications to nowhere, {name} …", flush=True)
            measured = notifications.measure(url, folder, count=options.bulk, seconds=options.seconds)
            figures |= {f"{what}_{name}": row for what, row in uvloop.run(measured).items()}
    return figures


def _history(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with postgres.running(under=Path(tempfile.gettempdir())) as server:
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
    return {"history": figures, "history_rows": options.rows, "history_filled_s": filled}


def _databases(server: postgres.Postgres, folder: Path, name: str) -> list[tuple[str, str]]:
    return [("sqlite", f"sqlite:///{folder}/{name}.db"), ("postgresql", server.create(name))]


_ALWAYS = {
    "orders": orders.measure,
    "turns": turns.measure,
    "edge": _edge,
    "catalog": _catalog,
    "notifications": _notifications,
    "uploads": exports.measure_uploads,
}
_IN_FULL = {"history": _history, "sync": sync.measure, "exports": exports.measure, "full": full.measure}
_MEASURES = _ALWAYS | _IN_FULL


if __name__ == "__main__":
    sys.exit(main())
