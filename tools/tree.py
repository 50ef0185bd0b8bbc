"""What stands in this tree."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SERVICES = sorted(file.parent.name for file in ROOT.glob("services/*/pyproject.toml"))
