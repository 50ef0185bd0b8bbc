"""`plots.py FIGURES.json FOLDER`: the report's pictures. It runs where the peers do, for Matplotlib is none of ours."""

import json
import sys
from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("svg")
# The same figures give the same file.
mpl.rcParams |= {"svg.hashsalt": "brewline", "svg.fonttype": "none", "font.size": 9, "axes.axisbelow": True}

from matplotlib import pyplot as plt  # noqa: E402  after its backend is chosen

_OURS, _OTHERS = "#7a4a21", "#9aa5b1"
_PARTS = {
    "order-service": "#7a4a21", "payment-service": "#b5793f", "notification-service": "#dcae7a", "app": "#e45756",
    "sidecars": "#4c78a8", "restate": "#54a24b", "postgres": "#72b7b2", "sandbox": "#9aa5b1", "the rest": "#d3d7dc",
}  # fmt: skip


def main() -> None:
    figures, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for plot in (rates, latencies, processor):
        plot(figures)
        save(folder / f"{plot.__name__}.svg")
    if "steady" in figures:
        steady(figures)
        save(folder / "steady.svg")


def save(file: Path) -> None:
    plt.tight_layout()
    plt.savefig(file, metadata={"Date": None})
    plt.close()
    file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")


def rates(figures: dict) -> None:
    """Each way's calls a second, with the spread of its rounds."""
    rows = {
        name: [one["many"]["per_s"] for one in rounds]
        for name, rounds in figures["turns"].items()
        if "nothing durable" not in name
    }
    names = sorted(rows, key=lambda name: median(rows[name]))
    middle = [median(rows[name]) for name in names]
    spread = [
        [middle[at] - min(rows[name]) for at, name in enumerate(names)],
        [max(rows[name]) - middle[at] for at, name in enumerate(names)],
    ]
    plt.figure(figsize=(7, 2.8))
    plt.barh(names, middle, xerr=spread, color=[_OURS if "ours" in name else _OTHERS for name in names], capsize=3)
    plt.xlabel("a second, 16 clients: median of three rounds, lowest and highest")
    plt.grid(axis="x", alpha=0.3)


def latencies(figures: dict) -> None:
    """Of placing an order, by how many do so at once."""
    found = {
        int(name.split("_")[1]): row
        for name, row in figures.items()
        if name.startswith("order_") and "_clients" in name
    }
    rows = sorted((found | {1: figures["order_alone"], 16: figures["order_many"]}).items())
    plt.figure(figsize=(7, 2.8))
    for which, style in (("p50_ms", "o-"), ("p99_ms", "s--")):
        plt.plot([clients for clients, _ in rows], [row[which] for _, row in rows], style, color=_OURS, label=which[:3])
    plt.xscale("log", base=2)
    plt.xticks([clients for clients, _ in rows], [str(clients) for clients, _ in rows])
    plt.xlabel("clients, each waiting for its answer before it asks again")
    plt.ylabel("ms")
    plt.grid(alpha=0.3)
    plt.legend()


def processor(figures: dict) -> None:
    """What one order takes, by process."""
    rows = {name: grouped(rounds) for name, rounds in figures["turns"].items() if name.startswith("order")}
    plt.figure(figsize=(7, 3.2))
    names, left = list(rows)[::-1], [0.0] * len(rows)
    for part, colour in _PARTS.items():
        widths = [rows[name].get(part, 0.0) for name in names]
        if any(widths):
            label = part if part != "app" else "the engine's app"
            plt.barh(names, widths, left=left, color=colour, label=label)
            left = [start + width for start, width in zip(left, widths, strict=True)]
    plt.xlabel("ms of processor time an order")
    plt.grid(axis="x", alpha=0.3)
    plt.legend(fontsize=7, ncols=5, loc="lower center", bbox_to_anchor=(0.45, 1.0), frameon=False)


def grouped(rounds: list) -> dict:
    each = {
        name: median(one["cpu_ms_each"].get(name, 0) for one in rounds) for one in rounds for name in one["cpu_ms_each"]
    }
    parts = dict.fromkeys(_PARTS, 0.0)
    for name, took in each.items():
        part = "sidecars" if name.endswith(".sidecar") else name if name in parts else "the rest"
        parts[part] += took
    return parts


def steady(figures: dict) -> None:
    """Orders a second in each minute."""
    minutes = [minute["per_s"] for minute in figures["steady"]["minutes"]]
    plt.figure(figsize=(7, 2.2))
    plt.bar(range(1, len(minutes) + 1), minutes, color=_OURS)
    plt.xlabel("minute")
    plt.ylabel("orders a second")
    plt.grid(axis="y", alpha=0.3)


if __name__ == "__main__":
    main()
