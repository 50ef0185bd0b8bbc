"""Each service against its own OpenAPI document, with every kind of input that schemathesis can think of."""

from typing import Any

import pytest
from brewery import bearer
from hypothesis import given
from hypothesis import strategies as st
from operations import CHECKS, EXAMPLES, FEW, OPERATIONS, asks_for_a_token
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import unsupported_method

from stack.sidecars import Stack

EITHER = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
def test_no_input_breaks_it_or_gets_an_answer_nobody_has_written_down(stack: Stack, name: str, operation: Any) -> None:
    """An admin's, where a token is asked for; what is answered without one is in tests/contracts."""
    headers: dict[str, str] = {}
    if asks_for_a_token(operation):
        headers = bearer(stack, "admin") | {"dapr-api-token": stack.app_token, "X-Tenant-Id": "default"}
    # A stream that is let in has no end, and an export that is asked for reads all there is.
    endless, long = "text/event-stream" in str(operation.definition.raw), operation.path == "/api/v1/exports"
    examples, seconds = FEW if endless or long else EXAMPLES, 2 if endless else 60

    @examples
    @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in EITHER]))
    def probe(case: Any) -> None:
        case.call_and_validate(
            base_url=stack.url(f"{name}-service"),
            headers=headers,
            timeout=seconds,
            checks=[*CHECKS, unsupported_method],
        )

    probe()
