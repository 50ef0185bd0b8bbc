"""The provider under OpenFeature's own scenarios: evaluation.feature."""

import json
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from pytest_bdd import given, parsers, scenarios, then, when

from chassis.flags.memory import Flags
from chassis.flags.provider import provide

scenarios("evaluation.feature")

CONFIGURED: dict[str, Any] = {
    "boolean-flag": True,
    "string-flag": "hi",
    "integer-flag": 10,
    "float-flag": 0.5,
    "object-flag": {"showImages": True, "title": "Check out these pics!", "imagesPerPage": 100},
    "wrong-flag": "uno",
    "boolean-zero-flag": False,
    "string-zero-flag": "",
    "integer-zero-flag": 0,
    "float-zero-flag": 0.0,
    "context-aware": {"tenants": {"internal": True}},
    "split-flag": {"percentage": 100},
}


class Asked:
    """One evaluation: where, in which context, and what came of it."""

    client: OpenFeatureClient
    context: EvaluationContext | None = None
    details: Any = None


@pytest.fixture
def asked():
    yield Asked()
    api.shutdown()


@given("a provider with the flags of the specification")
def _(asked: Asked) -> None:
    flags = Flags()
    flags.configured = {f"Features:{name}": value for name, value in CONFIGURED.items()}
    provide(flags)
    asked.client = api.get_client()


@given(parsers.parse('a context with the tenant "{tenant}"'))
def _(asked: Asked, tenant: str) -> None:
    asked.context = EvaluationContext(attributes={"tenant": tenant})


@given(parsers.parse('a context with the user "{user}"'))
def _(asked: Asked, user: str) -> None:
    asked.context = EvaluationContext(targeting_key=user)


@when(parsers.parse('the {kind} flag "{flag}" is evaluated, where {default} is the default'))
def _(asked: Asked, kind: str, flag: str, default: str) -> None:
    evaluate = getattr(asked.client, f"get_{kind}_details")
    asked.details = evaluate(flag, json.loads(default), asked.context)


@then(parsers.parse("its value is {value}"))
def _(asked: Asked, value: str) -> None:
    wanted = json.loads(value)
    assert asked.details.value == wanted
    assert type(asked.details.value) is type(wanted)


@then(parsers.parse("the reason is {reason}"))
def _(asked: Asked, reason: str) -> None:
    assert asked.details.reason == reason


@then(parsers.parse('the details name the flag "{flag}"'))
def _(asked: Asked, flag: str) -> None:
    assert asked.details.flag_key == flag


@then(parsers.parse("the error is {code}"))
def _(asked: Asked, code: str) -> None:
    assert asked.details.error_code == code
