"""What the production overlay declares in the place of Redis: the same files, with the addresses of one machine."""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from conftest import ROOT

import manifests
from stack import kafka, local, postgres

TOOLS = ROOT / "tools" / "bin"
OVERLAY = ROOT / "k8s" / "overlays" / "production"
BROKER, STORES = "pubsub", ("statestore", "workflowstore")


DAPRD = TOOLS / "production" / "daprd"


def marks() -> list[pytest.MarkDecorator]:
    """Of a module that needs all this."""
    there = {str(DAPRD): DAPRD.exists(), "PostgreSQL": postgres.find() is not None}
    there |= {"Prometheus": local.find_program("prometheus", TOOLS) is not None}
    lacking = [*(name for name, found in there.items() if not found), *kafka.missing(TOOLS)]
    reason = f"needs {', '.join(lacking)}: `make test-scale` gets it"
    return [pytest.mark.scale, pytest.mark.timeout(600), pytest.mark.skipif(bool(lacking), reason=reason)]


@contextmanager
def engines() -> Generator[tuple[kafka.Kafka, postgres.Postgres]]:
    """A broker, and a database for ten services and their sidecars (docs/operations.md counts their connections).
    Sidecars are those that load both, unless the machine has one of its own, which loads everything."""
    with (
        pytest.MonkeyPatch.context() as environment,
        kafka.running(TOOLS) as broker,
        postgres.running(settings={"max_connections": "400"}) as database,
    ):
        environment.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{DAPRD.parent}")
        yield broker, database


@cache
def overlay() -> dict[str, dict[str, Any]]:
    """Its components, by name."""
    rendered = [manifest for _, manifest in manifests.render(OVERLAY)]
    return {each["metadata"]["name"]: each for each in rendered if each["kind"] == "Component"}


def component(name: str, *, brokers: str, state_url: str) -> dict[str, Any]:
    """As the overlay makes it, but for its addresses, and without the cluster's namespace and labels."""
    document = deepcopy(overlay()[name]) | {"metadata": {"name": name}}
    for entry in cast("list[dict[str, Any]]", document["spec"]["metadata"]):
        if entry.pop("secretKeyRef", None):
            entry["value"] = state_url
        if entry["name"] == "brokers":
            entry["value"] = brokers
    return document


def put(folder: Path, *names: str, brokers: str, state_url: str) -> None:
    for name in names:
        document = component(name, brokers=brokers, state_url=state_url)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))


def heard(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
