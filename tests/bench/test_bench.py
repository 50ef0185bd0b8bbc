"""The bench still finds what it measures: it is run by hand, after long."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOON = ["--seconds=1", "--clients=2", "--alone=5", "--bulk=100", "--rows=3000", "--pages=3"]


@pytest.mark.more
def test_every_part_is_measured():
    command = [sys.executable, "tests/bench/bench.py", *SOON]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    figures = json.loads((ROOT / "var/bench.json").read_text())
    assert {"order_many", "edge", "bulk_sqlite", "history"} <= figures.keys()
