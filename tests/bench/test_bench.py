"""The bench still finds what it measures: it is run by hand, after long."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOON = [
    "--seconds=1",
    "--minute=1",
    "--rounds=1",
    "--clients=2",
    "--alone=10",
    "--bulk=100",
    "--rows=3000",
    "--pages=3",
    "--customers=1200",
    "--readers=20",
]


@pytest.mark.more
@pytest.mark.timeout(600)
def test_every_part_is_measured():
    command = [sys.executable, "tests/bench/bench.py", "full", *SOON]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    figures = json.loads((ROOT / "var/bench/latest.json").read_text())
    assert {
        "order_many",
        "turns",
        "edge",
        "featured",
        "live_orders",
        "bulk_sqlite",
        "uploads",
        "history",
        "exports",
        "sync",
        "steady",
        "million",
        "replicas",
    } <= figures.keys()
    assert {f"{what}, {who}" for what in ("order", "two bare steps") for who in ("Restate", "DBOS")} <= figures[
        "turns"
    ].keys()
    assert not any(
        row["wrong"][what] for rounds in figures["turns"].values() for row in rounds for what in row.get("wrong", {})
    )
    assert [row["rows"] for row in figures["exports"].values()] == [3010] * 2
    report = (ROOT / "var/bench/performance.md").read_text()
    plots = re.findall(r"\((performance/\w+\.svg)\)", report)
    assert len(plots) == 4
    assert all((ROOT / "var/bench" / plot).stat().st_size > 0 for plot in plots)
