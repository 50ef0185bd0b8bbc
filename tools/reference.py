"""The reference in docs/, made from the code whenever the site is built (mkdocs calls `on_files`): settings, metrics,
routes and events. Nothing of it is committed, so that nothing of it can be out of date."""

import ast
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from chassis.settings import ServiceSettings
from tree import ROOT, SERVICES

UNITS = {"seconds": "s", "bytes": "bytes", "days": "days", "rows": "rows", "port": "port"}
# What most services have, and what it means in each.
EVERYWHERE = {
    "database_url": "The database: `sqlite:///…` serves one process, `postgresql://…` any number.",
    "pubsub": "Name of the pub/sub component.",
    "state_store": "Name of the state store's component.",
    "cache_store": "Name of the component behind the second-level cache.",
    "rate_limits": "Other limits by route, JSON. A route that the service hasn't is refused at start.",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """`default` is as JSON or Python shows it; `unit` is empty where the value has none."""

    variable: str
    default: str
    unit: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Metric:
    name: str
    kind: str
    unit: str
    meaning: str
    file: str


def settings(service: str | None) -> list[Setting]:
    """Of a service, what it adds to or sets otherwise than all; of None, what every service has."""
    of: type[BaseSettings] = (
        ServiceSettings if service is None else importlib.import_module(f"{service}.settings").Settings
    )
    own = ast_fields(of)
    prefix = of.model_config.get("env_prefix", "")
    meanings = EVERYWHERE | comments(ServiceSettings) | comments(of)
    return [
        Setting(
            variable=str(field.validation_alias or (prefix + name).upper()),
            default="" if field.is_required() else shown(field),
            unit=UNITS.get(name.rsplit("_", 1)[-1], ""),
            meaning=meanings.get(name, ""),
        )
        for name, field in of.model_fields.items()
        if name in own and not (service is None and name == "rate_limits")  # each service has its own variable
    ]


def shown(field: FieldInfo) -> str:
    """A default as the environment would have it."""
    default: Any = field.default
    if isinstance(default, tuple) and all(isinstance(word, str) for word in cast("tuple[Any, ...]", default)):
        default = ",".join(cast("tuple[str, ...]", default))
    elif isinstance(default, dict | tuple):
        default = TypeAdapter[Any](cast("Any", field.annotation)).dump_json(default).decode()
    return "none" if default in (None, "") else f"`{default}`"


def source_of(of: type[BaseSettings]) -> str:
    return Path(str(importlib.import_module(of.__module__).__file__)).read_text()


def ast_fields(of: type[BaseSettings]) -> dict[str, ast.AnnAssign]:
    [found] = [
        node for node in ast.parse(source_of(of)).body if isinstance(node, ast.ClassDef) and node.name == of.__name__
    ]
    return {
        node.target.id: node
        for node in found.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def comments(of: type[BaseSettings]) -> dict[str, str]:
    """By field, the comment in its line, or else in the lines right above it."""
    lines = source_of(of).splitlines()
    found: dict[str, str] = {}
    for name, node in ast_fields(of).items():
        beside = re.search(r"\s# (?!noqa)(.+)$", lines[(node.end_lineno or 0) - 1])
        above: list[str] = []
        line = node.lineno - 2
        while lines[line].lstrip().startswith("# "):
            above.insert(0, lines[line].strip()[2:])
            line -= 1
        if beside or above:
            found[name] = beside[1] if beside else " ".join(above)
    return found


def metrics() -> list[Metric]:
    """Every instrument that is made by `meter.create_…`; its name has to stand there as it is."""
    found: list[Metric] = []
    for file in sorted([*ROOT.glob("libs/chassis/chassis/**/*.py"), *ROOT.glob("services/*/*/**/*.py")]):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr.startswith("create_")
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "meter"
            ):
                words = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg in _SHOWN}
                found.append(
                    Metric(
                        name=words.get("name") or ast.literal_eval(node.args[0]),
                        kind=node.func.attr.removeprefix("create_").replace("_", " "),
                        unit=words.get("unit", ""),
                        meaning=words.get("description", ""),
                        file=str(file.relative_to(ROOT)),
                    )
                )
    return found


_SHOWN = {"name", "unit", "description"}


def table(head: str, rows: Iterator[tuple[str, ...]]) -> str:
    columns = head.split("|")
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def settings_page() -> str:
    parts = ["# Settings\n\nEnvironment variables. How they belong together: [Running](../operations.md#settings).\n"]
    for service in (None, *SERVICES, "sandbox"):
        rows = ((f"`{one.variable}`", one.default, one.unit, one.meaning) for one in settings(service))
        parts += [f"## {service or 'Every service'}\n", table("variable|default|unit|meaning", rows)]
    return "\n".join(parts)


def metrics_page() -> str:
    rows = ((f"`{one.name}`", one.kind, one.unit, one.meaning, f"`{one.file}`") for one in metrics())
    head = (
        "# Metrics\n\nBy OTLP, where `OTEL_EXPORTER_OTLP_ENDPOINT` is set. What is read from a database every\n"
        "replica tells alike: take the largest, not the sum. When to be woken: [Alerts](../alerts.md).\n\n"
    )
    return head + table("name|kind|unit|meaning|made in", rows)


def routes_page() -> str:
    parts = [
        "# Routes\n\nFrom `contracts/http/`, which is made from the code. How to call them: [The API](../api.md).\n"
    ]
    for service in SERVICES:
        paths: Mapping[str, Mapping[str, Any]] = json.loads((ROOT / f"contracts/http/{service}.json").read_text())[
            "paths"
        ]
        rows = (
            (method.upper(), f"`{path}`", first_line(route), ", ".join(sorted(set(route["responses"]) - {"default"})))
            for path, methods in paths.items()
            for method, route in methods.items()
        )
        parts += [f"## {service}\n", table("method|path|does|answers", rows)]
    return "\n".join(parts)


def first_line(route: Mapping[str, Any]) -> str:
    words = str(route.get("description") or route["summary"])
    return " ".join(words.split("\n\n", maxsplit=1)[0].split())


def events_page() -> str:
    """By topic, from AsyncAPI; a message's `data` is the file in `contracts/events/` that its schema names."""
    spec = yaml.safe_load((ROOT / "contracts/asyncapi.yaml").read_text())
    ours = {one["channel"]["$ref"] for one in spec["operations"].values() if one["action"] == "send"}
    rows = (
        (
            f"`{channel['address']}`",
            "us" if f"#/channels/{name}" in ours else "another team",
            f"`{message}`",
            spec["components"]["messages"][message]["summary"],
            ", ".join(f"`{field}`" for field in schema_of(message).get("properties", {})),
        )
        for name, channel in sorted(spec["channels"].items())
        for message in channel["messages"]
    )
    head = (
        "# Topics and events\n\nMade from `contracts/asyncapi.yaml`; schemas with examples: `contracts/events/`.\n"
        "Who hears what: `README.md`.\n\n"
    )
    return head + table("topic|told by|type|says|data", rows)


def schema_of(message: str) -> Mapping[str, Any]:
    file = ROOT / f"contracts/events/{message}.json"
    return json.loads(file.read_text()) if file.exists() else {}


PAGES = {
    "reference/settings.md": settings_page,
    "reference/metrics.md": metrics_page,
    "reference/routes.md": routes_page,
    "reference/events.md": events_page,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What a fence says to the tests after its language is of no use to a reader, and mkdocs would refuse the fence."""
    return re.sub(r"^```(\w+) skip=.*$", r"```\1", markdown, flags=re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """mkdocs' hook."""
    from mkdocs.structure.files import File  # noqa: PLC0415  of no use to the tests

    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files
