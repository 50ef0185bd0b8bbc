"""What `make bench` has found: a table on the screen, and a report with plots."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, StrictUndefined

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
    for name, lines in _SHOWN.items():
        if name in figures:
            print("", *lines(figures), sep="\n")


def _turns(figures: Figures) -> Iterator[str]:
    yield "in turns: median (lowest to highest)"
    yield from _table({name: _row(rounds) for name, rounds in figures["turns"].items()})


def _edge(figures: Figures) -> Iterator[str]:
    yield f"{'the edge, p50':32}{'with ms':>10}{'without ms':>12}{'adds ms':>9}"
    for route, row in figures["edge"].items():
        yield f"{route:32}{row['with_ms']:>10}{row['without_ms']:>12}{row['adds_ms']:>9}"


def _live(figures: Figures) -> Iterator[str]:
    row = figures["live_orders"]
    yield f"{row['count']} who watch orders: {row['memory_mb']} MB"


def _processes(figures: Figures) -> Iterator[str]:
    yield f"{'':32}{'cpu ms an order':>16}{'idle %':>8}{'memory MB':>11}"
    for name, size in figures["memory_mb"].items():
        idle = figures["idle_percent_of_a_core"].get(name, "")
        yield f"{name:32}{figures['order_cpu_ms_each'].get(name, ''):>16}{idle:>8}{size:>11}"


def _history(figures: Figures) -> Iterator[str]:
    for database, pages in figures["history"].items():
        yield f"{'history, ' + database + ': all, and the slowest':68}{'p50 ms':>9}{'p99 ms':>9}"
        for name in sorted(pages, key=lambda name: (name != "all", -pages[name]["p99_ms"]))[:_SLOWEST]:
            yield f"{name:68}{pages[name]['p50_ms']:>9}{pages[name]['p99_ms']:>9}"


def _exports(figures: Figures) -> Iterator[str]:
    yield f"{'all orders exported':28}{'rows':>10}{'rows per s':>12}{'MB before':>11}{'at most':>9}"
    for how, row in figures["exports"].items():
        yield f"{how:28}{row['rows']:>10}{row['rows_per_s']:>12}{row['before_mb']:>11}{row['peak_mb']:>9}"


def _uploads(figures: Figures) -> Iterator[str]:
    row = figures["uploads"]
    memory = f"{row['before_mb']} MB before, {row['peak_mb']} MB at most"
    yield f"eight uploads of 10 MB at once: {row['mb_per_second']} MB a second; {memory}"


def _sync(figures: Figures) -> Iterator[str]:
    yield f"{'clients of INN8, rows per s':28}{'first':>10}{'no change':>12}{'MB first':>11}{'at most':>9}"
    for who, row in figures["sync"].items():
        yield f"{who:28}{row['first_per_s']:>10}{row['same_per_s']:>12}{row['first_mb']:>11}{row['peak_mb']:>9}"


def _long(figures: Figures) -> Iterator[str]:
    yield f"the last minute of ten against the first: {figures['steady']['ratio_last_to_first']}"
    yield f"two replicas against one, CPU an order: {figures['replicas']['ratio_cpu']}"
    for what, row in figures["million"].items():
        yield f"{what}, with many rows against few, p50: {row['ratio']}"


_SHOWN = {
    "turns": _turns,
    "edge": _edge,
    "live_orders": _live,
    "memory_mb": _processes,
    "history": _history,
    "exports": _exports,
    "uploads": _uploads,
    "sync": _sync,
    "steady": _long,
}


# --- in turns ---


def _row(rounds: Sequence[Figures]) -> dict[str, str]:
    return {
        "a second": _spread([each["many"]["per_s"] for each in rounds]),
        "p50 ms": _spread([each["many"]["p50_ms"] for each in rounds]),
        "p99 ms": _spread([each["many"]["p99_ms"] for each in rounds]),
        "alone p50 ms": _spread([each["alone"]["p50_ms"] for each in rounds]),
        "CPU ms": _spread([sum(each["cpu_ms_each"].values()) for each in rounds]),
        "memory MB": _spread([sum(each["memory_mb"].values()) for each in rounds]),
    }


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def _table(rows: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """As Markdown."""
    names = list(next(iter(rows.values())))
    yield f"| | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for name, row in rows.items():
        yield f"| {name} | {' | '.join(row.values())} |"


# --- the report ---


def write(figures: Figures, folder: Path) -> Path:
    """`performance.md` and its plots, in `folder`."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as kept:
        json.dump(figures, kept)
        kept.flush()
        plotted = [_PYTHON, _HERE / "plots.py", kept.name, folder / "performance"]
        subprocess.run(plotted, check=True)
    lines = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=False)  # noqa: S701  it is Markdown
    template = lines.from_string((_HERE / "performance.md.j2").read_text())
    told = template.render(
        figures=figures, turns="\n".join(list(_turns(figures))[1:]), reach=_reach(figures), pg=_on_postgresql(figures)
    )
    written = folder / "performance.md"
    written.write_text(told)
    return written


def _on_postgresql(figures: Figures) -> dict[str, float]:
    """Milliseconds of each process an order; none of PostgreSQL's where it runs in a container."""
    rounds = figures["turns"]["order, ours, PostgreSQL"]
    names = {"postgres", *rounds[0]["cpu_ms_each"]}
    return {name: median(each["cpu_ms_each"].get(name, 0.0) for each in rounds) for name in names}


def _reach(figures: Figures) -> dict[str, float]:
    """What was wanted of part 6, each as one figure: medians of the rounds."""
    rounds = figures["turns"]

    def middle(name: str, load: str, what: str) -> float:
        return median(each[load][what] for each in rounds[name])

    ours, bare = "order, ours, SQLite", "two bare steps, Restate"
    services = [name for name in figures["memory_mb"] if name.endswith("-service")]
    cpu = median(sum(each["cpu_ms_each"].values()) for each in rounds[ours])
    on_postgresql = median(sum(each["cpu_ms_each"].values()) for each in rounds["order, ours, PostgreSQL"])
    found = {
        "per_s": middle(ours, "many", "per_s"),
        "p99_to_p50": median(each["many"]["p99_ms"] / each["many"]["p50_ms"] for each in rounds[ours]),
        "to_inbox": median(each["to_inbox"]["p50_ms"] for each in rounds[ours]),
        "postgresql": middle("order, ours, PostgreSQL", "many", "per_s") / middle(ours, "many", "per_s"),
        "services_mb": max(figures["memory_mb"][name] for name in services),
        "sidecars_mb": max(size for name, size in figures["memory_mb"].items() if name.endswith("service.sidecar")),
        "idle": sum(share for name, share in figures["idle_percent_of_a_core"].items() if name in services),
        "idle_all": sum(figures["idle_percent_of_a_core"].values()),
        "cpu": cpu,
        "cpu_postgresql": on_postgresql,
        "cores_for_10000": on_postgresql * 10,
        "wrong": sum(sum(each["wrong"].values()) for name in rounds for each in rounds[name] if "wrong" in each),
    }
    # Each beside ours on the database that it is on itself.
    for peer, beside in (("Restate", ours), ("DBOS", "order, ours, PostgreSQL")):
        if f"order, {peer}" in rounds:
            mine = middle(beside, "many", "per_s")
            found[f"order_to_{peer}"] = mine / middle(f"order, {peer}", "many", "per_s")
            found[f"steps_to_{peer}"] = mine / middle(f"two bare steps, {peer}", "many", "per_s")
    if bare in rounds:
        found["alone_to_restate"] = middle(ours, "alone", "p50_ms") / middle(bare, "alone", "p50_ms")
    return found
