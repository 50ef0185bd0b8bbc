"""What the figures are of: the machine, and the versions of what ran on it."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path

import psutil

_ROOT = Path(__file__).resolve().parents[2]
_PEERS = _ROOT / "tools" / "bin" / "peers"
_OURS = ("fastapi", "uvicorn", "SQLAlchemy", "aiohttp", "pydantic")


def described() -> dict[str, str]:
    return {
        "processor": f"{_model()}, {os.cpu_count()} cores, {psutil.virtual_memory().total // 2**30} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _said("git", "rev-parse", "--short", "HEAD"),
        "daprd": _said(str(_ROOT / "tools/bin/daprd"), "--version"),
        "redis": _number(_said("redis-server", "--version")),
        "packages": ", ".join(f"{name.lower()} {importlib.metadata.version(name)}" for name in _OURS),
        "restate": _restate(),
        "dbos": next(
            (
                path.name.removesuffix(".dist-info").partition("-")[2]
                for path in _PEERS.glob("venv/lib/*/site-packages/dbos-*.dist-info")
            ),
            "",
        ),
    }


def _model() -> str:
    told = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    )
    return told[1] if told else platform.processor()


def _restate() -> str:
    package = _PEERS / "node_modules/@restatedev/restate-server/package.json"
    return json.loads(package.read_text())["version"] if package.exists() else ""


def _number(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else text


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
