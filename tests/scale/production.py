"""What the production overlay declares in the place of Redis: the same files, with the addresses of one machine."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import yaml
from conftest import ROOT

from stack import kafka, local
from stack.sidecars import Stack

TOOLS = ROOT / "tools" / "bin"
OVERLAY = ROOT / "k8s" / "overlays" / "production"
BROKER, STORES = "pubsub", ("statestore", "workflowstore")


def missing() -> list[str]:
    """What this machine lacks."""
    there = {str(daprd()): daprd().exists(), "postgresql": shutil.which("psql") is not None}
    return [*(name for name, found in there.items() if not found), *kafka.missing(TOOLS)]


def daprd() -> Path:
    return TOOLS / "production" / "daprd"


def component(name: str, *, brokers: str, state_url: str) -> dict[str, Any]:
    """One of components/, as the overlay patches it."""
    document = yaml.safe_load((ROOT / "components" / f"{name}.yaml").read_text())
    patch = yaml.safe_load((OVERLAY / f"{name}.yaml").read_text())
    document["spec"] |= patch["spec"]
    for entry in cast("list[dict[str, Any]]", document["spec"]["metadata"]):
        if entry.get("secretKeyRef") == {"name": "brewline-database", "key": "state"}:
            del entry["secretKeyRef"]
            entry["value"] = state_url
        if entry["name"] == "brokers":
            entry["value"] = brokers
    return document


def put(folder: Path, *names: str, brokers: str, state_url: str) -> None:
    for name in names:
        document = component(name, brokers=brokers, state_url=state_url)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))


def serves_all(stack: Stack, names: Iterable[str]) -> bool:
    return all(local.http_ok(f"{stack.url(name)}/health/ready") for name in names)


def heard(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
