"""Every operation of every service's OpenAPI document, as schemathesis reads it."""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts" / "http"
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = settings(
    max_examples=20,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=tuple(HealthCheck),  # pyright: ignore[reportArgumentType]  # an enum's members
)
FEW = settings(EXAMPLES, max_examples=6)


def _document(file: Path) -> dict[str, Any]:
    """What the service publishes, without the catch-all response: under it no status would be undocumented."""
    document = json.loads(file.read_text())
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("default", None)
    return document


def _readable(found: Any) -> Any:
    """An operation that schemathesis could read; raises for another."""
    return found.ok()


def asks_for_a_token(operation: Any) -> bool:
    return all(operation.definition.raw.get("security", [{}]))


OPERATIONS = [
    pytest.param(file.stem, operation, id=f"{file.stem} {operation.label}")
    for file in sorted(CONTRACTS.glob("*.json"))
    for operation in map(_readable, schemathesis.openapi.from_dict(_document(file)).get_all_operations())
]
