"""Every route of every service has a rule, and the rule is what an unknown caller meets."""

import asyncio
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import httpx
import pytest
import requests
from fastapi import FastAPI
from hypothesis import given
from operations import CHECKS, FEW, OPERATIONS, asks_for_a_token

from chassis.edge.auth import Access
from chassis.edge.rules import CHASSIS_RULES, Book, routes_of
from cli import machine
from contracts import services

APPS = services()
ANYBODY = {Access.PUBLIC, Access.GUEST, Access.PROBE, Access.STATUS}
OPTIONAL = [{}, {"bearer": []}]
SECURITY = {Access.SIDECAR: [{"sidecar": []}], Access.STATUS: OPTIONAL, Access.GUEST: OPTIONAL}
RULES = {name: import_module(f"{name}.access").RULES for name in APPS}


def every_route() -> Iterator[tuple[str, str]]:
    for name, app in APPS.items():
        for route in sorted(routes_of(app)):
            yield name, route


def test_every_service_is_walked():
    assert {f"{name}-service" for name in APPS} == set(machine.apps()) - {"sandbox"}


@pytest.mark.parametrize("name", APPS)
def test_no_route_is_without_a_rule_and_no_rule_without_a_route(name: str):
    routes, rules = routes_of(APPS[name]), set(Book(RULES[name]).rules)

    assert routes - rules == set(), "routes without a rule: nobody can reach them"
    assert set(RULES[name]) - routes == set(), "rules without a route"
    assert rules - routes <= {"POST /job/{name}"}, "only the services with jobs have their route"


def test_a_new_route_without_a_rule_is_found_and_shut():
    app = services()["order"]
    app.get("/api/v1/forgotten")(lambda: "secret")

    assert "GET /api/v1/forgotten" not in Book(RULES["order"]).rules
    assert "GET /api/v1/forgotten" in routes_of(app)


@pytest.mark.parametrize("name", APPS)
def test_only_what_the_contract_says_is_public(name: str):
    public = {route for route, access in Book(RULES[name]).rules.items() if access in ANYBODY}

    allowed = {route for route, access in CHASSIS_RULES.items() if access in ANYBODY}
    assert public <= allowed | {
        "GET /api/v1/catalog",
        "GET /api/v1/catalog/featured",
        "POST /api/v1/password-resets",
        "GET /",
        "GET /ops",
        "GET /web/config.json",
        "GET /web/{path:path}",
        "GET /auth/sign-in",
        "GET /auth/callback",
        "POST /auth/token",  # they ask for a cookie of ours
        "POST /auth/sign-out",
    }


async def call(app: FastAPI, route: str, **headers: str) -> httpx.Response:
    method, path = route.split(" ")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        return await client.request(method, path.replace("{", "").replace("}", ""), content=b"{")


@pytest.mark.parametrize(("name", "route"), list(every_route()))
async def test_whoever_does_not_say_who_he_is_gets_no_further(name: str, route: str):
    """Nothing behind these apps is started: an answer other than 401 would have reached into it."""
    if Book(RULES[name]).rules[route] in ANYBODY | {Access.SIGNED}:
        return
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"dapr-api-token": "a guess at the token"}):
        answer = await call(APPS[name], route, **headers)

        assert (answer.status_code, answer.json()["errorType"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def send(app: FastAPI, case: Any) -> httpx.Response:
    prepared: Any = requests.Request(**case.as_transport_kwargs(base_url="http://test")).prepare()
    request = httpx.Request(prepared.method, prepared.url, headers=prepared.headers, content=prepared.body)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        return await client.send(request)


@pytest.mark.parametrize(("name", "operation"), [each for each in OPERATIONS if asks_for_a_token(each.values[1])])
def test_whatever_is_sent_without_a_token_is_answered_as_the_document_says(name: str, operation: Any):
    with asyncio.Runner() as loop:

        @FEW  # pyright: ignore[reportUntypedFunctionDecorator]  # as the strategy is
        @given(case=operation.as_strategy())
        def probe(case: Any) -> None:
            answer = loop.run(send(APPS[name], case))
            assert answer.status_code in {401, 404, 405}
            case.validate_response(answer, checks=CHECKS)

        probe()


@pytest.mark.parametrize("name", APPS)
def test_the_document_says_what_every_route_asks_for(name: str):
    document = APPS[name].openapi()
    rules = Book(RULES[name]).rules

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            access = rules[f"{method.upper()} {path}"]
            assert operation["x-access"] == access.name.lower()
            asked = SECURITY.get(access, [{"bearer": []}] if access.role else None)
            assert operation.get("security") == asked
            if access is not Access.SIGNED:  # each of them has its own answer to a token that isn't good
                assert ("401" in operation["responses"]) == (asked is not None)
                asked_or_not = access.role is not None or SECURITY.get(access) == OPTIONAL
                assert ("403" in operation["responses"]) == asked_or_not
