"""`make bench ARGS="--against PATH"`: this checkout and another one, measured in turns, so that what the machine does
besides falls on both alike."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUNS = 3
_WRITTEN = ("bench/latest.json", "bench.json")  # the second by checkouts from before part 6
# Of each row of figures; what else is in them says how they came about.
_COMPARED = ("per_s", "per_core_s", "p50_ms", "p99_ms", "with_ms", "without_ms")


def compare(other: Path, arguments: Sequence[str]) -> None:
    """Each is measured by its own bench, in its own environment (`make setup` there first)."""
    figures: dict[Path, list[dict[str, float]]] = {other: [], ROOT: []}
    for run in range(RUNS):
        for checkout, measured in figures.items():
            print(f"\nrun {run + 1} of {RUNS}: {checkout}", flush=True)
            measured.append(_measured(checkout, arguments))
    print(f"\n{'median (lowest to highest)':52}{'there':>24}{'here':>24}{'ratio':>8}")
    for name, ratio, spreads in _rows(figures[other], figures[ROOT]):
        print(f"{name:52}{spreads[0]:>24}{spreads[1]:>24}{ratio:>8.2f}")


def _measured(checkout: Path, arguments: Sequence[str]) -> dict[str, float]:
    command = [str(checkout / ".venv/bin/python"), "tests/bench/bench.py", *arguments]
    subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
    written = next(file for name in _WRITTEN if (file := checkout / "var" / name).exists())
    return dict(_flat(json.loads(written.read_text())))


def _flat(figures: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name} ")
        elif name in _COMPARED or path.startswith("order_cpu_ms_each") or name.startswith("ratio_"):
            yield path + name, value


def _rows(
    there: Sequence[Mapping[str, float]], here: Sequence[Mapping[str, float]]
) -> Iterator[tuple[str, float, list[str]]]:
    """What both have measured in every run."""
    for name in there[0]:
        sides = [[run[name] for run in runs if name in run] for runs in (there, here)]
        if all(len(side) == RUNS for side in sides) and median(sides[0]):
            spreads = [f"{median(side):g} ({min(side):g} to {max(side):g})" for side in sides]
            yield name, median(sides[1]) / median(sides[0]), spreads
