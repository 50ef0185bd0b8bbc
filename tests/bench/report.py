"""What `make bench` has found: a table on the screen, and a report with plots."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

Figures = Mapping[str, Any]
_HERE = Path(__file__).resolve().parent
_PYTHON = _HERE.parents[1] / "tools" / "bin" / "peers" / "venv" / "bin" / "python"
_COLUMNS = {"count": 8, "per_s": 9, "per_core_s": 12, "p50_ms": 9, "p99_ms": 9}
_SLOWEST = 12


# --- on the screen ---


def show(figures: Figures) -> None:
    print(f"\n{'':28}{'count':>8}{'per s':>9}{'per core s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    for name, row in figures.items():
        if isinstance(row, dict) and {"p50_ms", "per_s"} & row.keys():
            told = (f"{row.get(key, ''):>{width}}" for key, width in _COLUMNS.items())
            print(f"{name:28}{''.join(told)}")
    if "turns" in figures:
        print(f"\n{'in turns: median (lowest to highest)':28}")
        for line in _table(turns(figures)):
            print(line)
    if "edge" in figures:
        print(f"\n{'the edge, p50':32}{'with ms':>10}{'without ms':>12}{'adds ms':>9}")
        for route, row in figures["edge"].items():
            print(f"{route:32}{row['with_ms']:>10}{row['without_ms']:>12}{row['adds_ms']:>9}")
    if "memory_mb" in figures:
        print(f"\norder / floor: {figures['ratio_order_to_floor']}")
        print(f"\n{'':32}{'cpu ms an order':>16}{'idle %':>8}{'memory MB':>11}")
        for name, size in figures["memory_mb"].items():
            idle = figures["idle_percent_of_a_core"].get(name, "")
            print(f"{name:32}{figures['order_cpu_ms_each'].get(name, ''):>16}{idle:>8}{size:>11}")
    for database, pages in figures.get("history", {}).items():
        print(f"\n{'history, ' + database + ': all, and the slowest':68}{'p50 ms':>9}{'p99 ms':>9}")
        for name in sorted(pages, key=lambda name: (name != "all", -pages[name]["p99_ms"]))[:_SLOWEST]:
            print(f"{name:68}{pages[name]['p50_ms']:>9}{pages[name]['p99_ms']:>9}")
    for name in ("replicas", "steady", "million"):
        if name in figures:
            print(f"\n{name}: {json.dumps(figures[name])}")


# --- in turns ---


def turns(figures: Figures) -> dict[str, dict[str, str]]:
    """By what was measured: median and spread of its rounds."""
    return {name: dict(_row(rounds)) for name, rounds in figures["turns"].items()}


def _row(rounds: Sequence[Figures]) -> Iterator[tuple[str, str]]:
    yield "a second", _spread([each["many"]["per_s"] for each in rounds])
    yield "p50 ms", _spread([each["many"]["p50_ms"] for each in rounds])
    yield "p99 ms", _spread([each["many"]["p99_ms"] for each in rounds])
    yield "alone p50 ms", _spread([each["alone"]["p50_ms"] for each in rounds])
    yield "CPU ms", _spread([sum(each["cpu_ms_each"].values()) for each in rounds])
    yield "memory MB", _spread([sum(each["memory_mb"].values()) for each in rounds])


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.4g} ({min(values):.4g}–{max(values):.4g})"


def _table(rows: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """As Markdown."""
    names = list(next(iter(rows.values())))
    yield f"| | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for name, row in rows.items():
        yield f"| {name} | {' | '.join(row.values())} |"


def write(figures: Figures, folder: Path) -> Path:
    return folder
