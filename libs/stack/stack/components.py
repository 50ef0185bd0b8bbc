"""The files of `components/` for one run: the same ones that are shipped, with the addresses of this run in them."""

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import yaml


def render(source: Path, target: Path, *, addresses: Mapping[str, str]) -> None:
    """Copies the components with other addresses, and lets the sidecars find each other through a file of this run.

    The default of a single machine, mDNS, would find the sidecars of every run on the network that has the same ids.
    """
    shutil.rmtree(target, ignore_errors=True)
    names = target / "names" / "names.db"
    names.parent.mkdir(parents=True)
    # Of two sidecars that turn a new file to WAL at once, one is refused, and goes on without any names.
    with closing(sqlite3.connect(names)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
    for file in sorted(source.glob("*.yaml")):
        text = readdressed(file.read_text(), addresses)
        documents = [cast("dict[str, Any]", document) for document in yaml.safe_load_all(text) if document]
        for document in documents:
            if document["kind"] == "Configuration":
                document["spec"]["nameResolution"] = name_resolution(names)
        (target / file.name).write_text(yaml.safe_dump_all(documents, sort_keys=False))


def readdressed(text: str, addresses: Mapping[str, str]) -> str:
    for usual, moved in addresses.items():
        text = text.replace(usual, moved)
    return text


def name_resolution(database: Path) -> dict[str, Any]:
    # Long intervals: on a busy machine a late renewal must not make an app unknown, and a sidecar that starts again
    # takes its old address over at once.
    tuning = {"updateInterval": "60s", "timeout": "10s", "busyTimeout": "5s"}
    return {
        "component": "sqlite",
        "version": "v1",
        "configuration": {"connectionString": f"file:{database}", **tuning},
    }
