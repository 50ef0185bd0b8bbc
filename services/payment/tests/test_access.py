"""Who gets in: only our own sidecar, whatever else a caller brings."""

import pytest
import sqlalchemy as sa
import structlog

from chassis.edge.auth import Access
from chassis.edge.rules import CHASSIS_RULES, Book, routes_of
from payment.access import RULES
from payment.app import create_app
from payment.tables import payments

PAYMENT = {
    "key": "o-1:charge",
    "orderId": "o-1",
    "amount": "9.00",
    "currency": "USD",
    "paymentMethod": "credit_card",
    "cardToken": "tok_ok",
}
REFUND = {"key": "o-1:refund", "paymentId": "p-1", "amount": "1.00"}
CALLS = {"/process-payment": PAYMENT, "/refund-payment": REFUND, "/job/reconcile-payments": {}}


@pytest.fixture
async def outsider(running, provider):
    """A client that says whom it acts for, as order does, and proves nothing."""
    async with running(by_name={"a": provider}) as client:
        del client.headers["dapr-api-token"]
        yield client


@pytest.fixture
def rows(database):
    """How many payments the database holds."""

    def count():
        engine = sa.create_engine(f"sqlite:///{database}")
        with engine.connect() as connection:
            found = connection.execute(sa.select(sa.func.count()).select_from(payments)).scalar_one()
        engine.dispose()
        return found

    return count


def test_every_route_has_a_rule_and_every_rule_a_route(settings, sidecar):
    assert routes_of(create_app(settings(), sidecar=sidecar)) == set(Book(RULES).rules)


def test_nothing_but_probes_the_description_and_what_is_signed_is_open():
    open_to_all = {Access.PUBLIC, Access.PROBE, Access.STATUS, Access.SIGNED}
    described = {route for route, access in CHASSIS_RULES.items() if access in open_to_all}
    assert {route for route, access in Book(RULES).rules.items() if access in open_to_all} == {
        *described,
        "POST /api/v1/webhooks/{provider}",
    }


def test_whatever_moves_money_or_stands_for_a_provider_is_an_administrators():
    asked_of = {
        route: access for route, access in RULES.items() if route.startswith("POST /api") and "webhooks" not in route
    }

    assert set(asked_of.values()) == {Access.ADMIN}


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize(
    "proof",
    [
        {},
        {"dapr-api-token": ""},
        {"dapr-api-token": "app-token-of-the-test"},
        {"dapr-api-token": "app-token-of-the-tests2"},
        {"Authorization": "Bearer app-token-of-the-tests"},
    ],
    ids=["none", "empty", "shorter", "longer", "as a bearer"],
)
async def test_without_the_app_token_nothing_happens(outsider, provider, rows, path, proof):
    answer = await outsider.post(path, json=CALLS[path], headers=proof)

    assert (answer.status_code, answer.json()["errorType"]) == (401, "unauthenticated")
    assert (provider.posts, provider.lookups, rows()) == ([], [], 0)


@pytest.mark.parametrize("path", CALLS)
async def test_not_even_an_administrators_token_helps(outsider, issuer, provider, rows, path):
    answer = await outsider.post(path, json=CALLS[path], headers=issuer.bearer("admin"))

    assert answer.status_code == 401
    assert (provider.posts, rows()) == ([], 0)


@pytest.mark.parametrize("tenant", ["", "t" * 65, "two words", "a/b", "ünïcode", "a\tb", "a,b"])
async def test_a_tenant_of_another_shape_is_refused(running, provider, rows, tenant):
    async with running(by_name={"a": provider}) as client:
        answer = await client.post("/process-payment", json=PAYMENT, headers={"X-Tenant-Id": tenant.encode()})

    assert (answer.status_code, answer.json()["errorType"]) == (422, "invalid-request")
    assert (provider.posts, rows()) == ([], 0)


@pytest.mark.parametrize("tenant", ["t", "t" * 64, "Acme-Coffee_2.eu"])
async def test_a_tenant_as_a_token_names_it_is_believed(running, provider, tenant):
    async with running(by_name={"a": provider}) as client:
        answer = await client.post("/process-payment", json=PAYMENT, headers={"X-Tenant-Id": tenant})

    assert answer.json()["status"] == "succeeded"


async def test_what_a_drive_logs_names_the_tenant(till):
    merged = [structlog.contextvars.merge_contextvars]
    with structlog.testing.capture_logs(processors=merged) as logs:
        await till.pay(tenant="acme")

    assert [line["tenant"] for line in logs if line["event"] == "charge.settled"] == ["acme"]
