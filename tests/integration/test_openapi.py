"""Each service against its own OpenAPI document, with every kind of input that schemathesis can think of."""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from brewery import bearer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from stack.sidecars import Stack

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


def document(name: str) -> dict[str, Any]:
    """What the service publishes, without the catch-all response: under it no status would be undocumented."""
    told = json.loads((CONTRACTS / f"{name}.json").read_text())
    for operations in told["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("default", None)
    return told


def whole(found: Any) -> Any:
    """An operation that schemathesis could read; raises for another."""
    return found.ok()


SCHEMAS = {file.stem: schemathesis.openapi.from_dict(document(file.stem)) for file in sorted(CONTRACTS.glob("*.json"))}
OPERATIONS = [
    pytest.param(name, operation, id=f"{name} {operation.label}")
    for name, schema in SCHEMAS.items()
    for operation in map(whole, schema.get_all_operations())
]


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
def test_no_input_of_an_admin_breaks_it_or_gets_an_answer_nobody_has_written_down(
    stack: Stack, name: str, operation: Any
) -> None:
    headers = bearer(stack, "admin") | {"dapr-api-token": stack.app_token, "X-Tenant-Id": "default"}
    # A stream that is let in has no end.
    examples, seconds = (FEW, 2) if "text/event-stream" in str(operation.definition.raw) else (EXAMPLES, 60)

    either = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)

    @examples
    @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in either]))
    def probe(case: Any) -> None:
        case.call_and_validate(
            base_url=stack.url(f"{name}-service"),
            headers=headers,
            timeout=seconds,
            checks=[*CHECKS, unsupported_method],
        )

    probe()


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
def test_without_a_token_nothing_is_answered_that_asks_for_one(stack: Stack, name: str, operation: Any) -> None:
    @EXAMPLES
    @given(case=operation.as_strategy())
    def probe(case: Any) -> None:
        answer = case.call_and_validate(base_url=stack.url(f"{name}-service"), checks=[*CHECKS, ignored_auth])
        if operation.definition.raw.get("security"):
            assert answer.status_code in {401, 404, 405}, answer.status_code

    probe()
