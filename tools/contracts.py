"""`make contracts` writes contracts/ from the code: a JSON Schema of every event, an AsyncAPI of all topics, an OpenAPI
of every service.

With --check nothing is written: exit status 1, and one line for each file that is stale, missing or left over.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

import asyncapi
from chassis.events import Event
from notification.incoming import foreign_events
from notification.incoming.foreign_events import ForeignEvent
from tree import ROOT, SERVICES

CONTRACTS = ROOT / "contracts"


def module(service: str, name: str) -> Any:
    return import_module(f"{service}.{name}")


EVENTS: tuple[type[Event], ...] = tuple(event for name in SERVICES for event in module(name, "events").EVENTS)
FOREIGN: tuple[type[ForeignEvent], ...] = foreign_events.EVENTS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when anything differs")
    check = parser.parse_args(arguments).check
    wanted = generate()
    stale = differences(wanted, CONTRACTS)
    if not check:
        write(wanted, CONTRACTS)
    for name in stale:
        print(f"contracts/{name}: " + ("stale; run `make contracts`" if check else "written"))
    print(f"contracts: {len(wanted)} files, {len(stale)} {'stale' if check else 'changed'}")
    return 1 if check and stale else 0


def generate() -> dict[str, str]:
    """Every file under contracts/ by its relative name, with its text."""
    documents = {f"events/{event.type}.json": event_schema(event) for event in (*EVENTS, *FOREIGN)}
    documents |= {f"http/{name}.json": app.openapi() for name, app in services().items()}
    written = {name: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for name, document in documents.items()}
    return written | {"asyncapi.yaml": asyncapi.document(EVENTS, FOREIGN)}


def differences(wanted: Mapping[str, str], folder: Path) -> list[str]:
    """The files that are not as they should be, those that should not be there included."""
    files = (*folder.glob("*/*.json"), *folder.glob("*.yaml"))
    there = {str(path.relative_to(folder)): path.read_text() for path in files}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def write(wanted: Mapping[str, str], folder: Path) -> None:
    for name in differences(wanted, folder):
        path = folder / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name])
        else:
            path.unlink()


class _Untitled(GenerateJsonSchema):
    """pydantic's titles of fields only repeat their names, badly ("Orderid")."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  pydantic's signature
        return False


def event_schema(event: type[Event | ForeignEvent]) -> JsonSchemaValue:
    """Of the event's `data`. More fields may come: a consumer ignores what it doesn't know."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:brewline:event:{event.type}",
        "title": event.type,
        "x-topic": event.topic,
    }
    schema = event.model_json_schema(by_alias=True, schema_generator=_Untitled)
    return head | {key: value for key, value in schema.items() if key != "title"}


def services() -> dict[str, FastAPI]:
    """Each service as it is assembled, over nothing: no database is opened and no sidecar is called."""
    anything = {"app_api_token": "of-nobody-anywhere"}
    return {
        name: module(name, "app").create_app(module(name, "settings").Settings.model_validate(anything))
        for name in SERVICES
    }


if __name__ == "__main__":
    sys.exit(main())
