"""Who gets in, and what each sees: a user the own notifications, staff the tenant's, nobody another tenant's."""

import importlib
import inspect
import re
from pathlib import Path

import httpx
import pytest

import notification
from chassis.edge.rules import Book, routes_of
from notification.access import RULES
from notification.app import create_app

LIST, ONE = "/api/v1/notifications", "/api/v1/notifications/{notification_id}"
LETTERS, REPLAY = "/api/v1/dead-letters", "/api/v1/dead-letters/{letter_id}/replay"
DEAD = "/events/dead/notification-service/orders"
ROLES = ("user", "staff", "admin")
EVERYBODY, STAFF, ADMIN, SIDECAR = {"user", "staff", "admin"}, {"staff", "admin"}, {"admin"}, {"sidecar"}
ANYBODY = {"nobody", "sidecar", *EVERYBODY}
TEMPLATE, RECIPIENT = "/api/v1/templates/{category}/{name}", "/api/v1/recipients/{recipient_id}"
MAY = {
    f"POST {LIST}": STAFF,
    f"GET {LIST}": EVERYBODY,
    f"GET {ONE}": EVERYBODY,
    f"POST {LIST}/bulk": ADMIN,
    f"GET {LIST}/bulk": ADMIN,
    f"GET {LIST}/bulk/{{bulk_id}}": ADMIN,
    f"GET {LIST}/bulk/{{bulk_id}}/recipients": ADMIN,
    "GET /api/v1/stream": EVERYBODY,
    "GET /api/v1/templates": STAFF,
    "POST /api/v1/templates": ADMIN,
    "POST /api/v1/templates/preview": ADMIN,
    f"GET {TEMPLATE}": STAFF,
    f"PUT {TEMPLATE}": ADMIN,
    f"GET {TEMPLATE}/versions": STAFF,
    f"POST {TEMPLATE}/publish": ADMIN,
    f"POST {TEMPLATE}/preview": STAFF,
    "GET /api/v1/recipients": STAFF,
    f"GET {RECIPIENT}": STAFF,
    f"PUT {RECIPIENT}": STAFF,
    f"DELETE {RECIPIENT}": ADMIN,
    f"GET {RECIPIENT}/export": ADMIN,
    f"GET {RECIPIENT}/preferences": EVERYBODY,
    f"PUT {RECIPIENT}/preferences": EVERYBODY,
    "GET /api/v1/unsubscribe": ANYBODY,
    "POST /api/v1/unsubscribe": ANYBODY,
    "POST /api/v1/receipts/{provider}": ANYBODY,
    "GET /api/v1/routes": STAFF,
    "PUT /api/v1/routes": ADMIN,
    "DELETE /api/v1/routes": ADMIN,
    "GET /api/v1/sagas": STAFF,
    "GET /api/v1/sagas/{correlation_id}": EVERYBODY,
    "POST /api/v1/sagas/{correlation_id}/retry": ADMIN,
    "POST /api/v1/password-resets": ANYBODY,
    "POST /api/v1/password-resets/redeem": ANYBODY,
    f"GET {LETTERS}": ADMIN,
    f"POST {LETTERS}/replay": ADMIN,
    f"POST {LETTERS}/discard": ADMIN,
    f"GET {LETTERS}/{{letter_id}}": ADMIN,
    f"PUT {LETTERS}/{{letter_id}}": ADMIN,
    f"GET {LETTERS}/{{letter_id}}/history": ADMIN,
    f"POST {REPLAY}": ADMIN,
    f"POST {LETTERS}/{{letter_id}}/discard": ADMIN,
    "POST /events/orders": SIDECAR,
    "POST /events/customers": SIDECAR,
    "POST /events/settings": SIDECAR,
    "POST /events/exports": SIDECAR,
    "POST /export-page": SIDECAR,
    "POST /events/{topic}": SIDECAR,
    f"POST {DEAD}": SIDECAR,
    "POST /events/dead/notification-service/customers": SIDECAR,
    "POST /events/dead/notification-service/settings": SIDECAR,
    "POST /events/dead/notification-service/exports": SIDECAR,
    "POST /events/dead/{app_id}/{topic}": SIDECAR,
    "POST /job/{name}": SIDECAR,
}


@pytest.fixture
async def service(running):
    """Its client brings nothing by itself."""
    async with running() as client:
        client.headers = httpx.Headers()
        yield client


@pytest.fixture
def proof(issuer, by_sidecar):
    """What somebody brings."""
    known = {"nobody": {}, "sidecar": by_sidecar, **{role: issuer.bearer(role) for role in ROLES}}
    return lambda who: known[who]


@pytest.fixture
def tell(service, by_sidecar):
    async def deliver(body, to="/events/orders"):
        assert (await service.post(to, json=body, headers=by_sidecar)).json() == {"status": "SUCCESS"}

    return deliver


@pytest.fixture
def ask(service, issuer):
    """A GET, by a role, of a tenant."""

    def get(path, role="user", **claims):
        return service.get(path, headers=issuer.bearer(role, **claims))

    return get


@pytest.fixture
def orders_of(ask):
    """Of which orders the list tells, newest first."""

    async def listed(role="user", query="", **claims):
        return [item["subjectId"] for item in (await ask(f"{LIST}{query}", role, **claims)).json()["items"]]

    return listed


def assert_problem(answer, status, error_type):
    assert (answer.status_code, answer.json()["errorType"]) == (status, error_type)


# --- the table of rules ---


def test_every_route_has_a_rule_and_every_rule_a_route(settings, sidecar):
    assert routes_of(create_app(settings, sidecar=sidecar)) == set(Book(RULES).rules)


def test_every_rule_is_tried_below():
    assert MAY.keys() == RULES.keys()


async def test_a_route_lets_in_whom_its_rule_names(service, proof):
    wrong: list[str] = []
    for route in RULES:
        method, path = route.split(" ")
        for who in ("nobody", "sidecar", *ROLES):
            answer = await service.request(method, re.sub(r"{\w+}", "x", path), headers=proof(who), json={})
            if not as_its_rule_says(route, who, answer):
                wrong.append(f"{route} by {who}: {answer.status_code} {answer.text[:100]}")
    assert not wrong, "\n".join(wrong)


def as_its_rule_says(route, who, answer):
    if who in MAY[route]:
        found = answer.status_code != 404 or answer.json()["errorType"] != "not-found"
        return answer.status_code in {200, 204, 404, 422} and found
    refused = (403, "role-missing") if who in ROLES and "sidecar" not in MAY[route] else (401, "unauthenticated")
    return (answer.status_code, answer.json()["errorType"]) == refused


@pytest.mark.parametrize("who", ["nobody", *ROLES])
async def test_nobody_but_the_sidecar_tells_of_events(service, proof, ask, event, who):
    for path in ("/events/orders", DEAD):
        assert_problem(await service.post(path, json=event(), headers=proof(who)), 401, "unauthenticated")
    assert (await ask(LIST, "admin")).json()["items"] == (await ask(LETTERS, "admin")).json()["items"] == []


# Their functions see rows of every tenant.
SYSTEM_SCOPE = {
    "queue.claim": {"claim", "due_channels", "give_back", "posting", "take_back"},
    "queue.digests": {"carried_by", "end_carried", "gathered", "with_whole_digests"},
    "queue.record_outcome": {"early", "settle"},
    "queue.delivery_status": {"apply", "ask_again_at", "claim_status_questions", "lock_messages", "take_early"},
}


WRITES = re.compile(r"\b(?:insert|update|delete|upsert|upsert_in)\((?:[\w.]+, )?(?:tables\.)?notifications\)")


def test_only_the_queue_writes_notifications():
    root = Path(notification.__file__).parent
    writing = {file.relative_to(root).parts[0] for file in root.rglob("*.py") if WRITES.search(file.read_text())}
    assert writing - {"migrations"} == {"queue"}


def test_only_the_sender_and_the_receipts_look_beyond_a_tenant():
    for name, functions in SYSTEM_SCOPE.items():
        assert public(importlib.import_module(f"notification.{name}")) == functions
    root = Path(notification.__file__).parent
    importing = {
        file.relative_to(root).parts[0]
        for file in root.rglob("*.py")
        for name in SYSTEM_SCOPE
        if f"from notification.{name} import" in file.read_text()
    }
    assert importing == {"queue", "receipts", "sending"}


def public(module):
    own = [name for name, one in inspect.getmembers(module, inspect.isfunction) if one.__module__ == module.__name__]
    return {name for name in own if not name.startswith("_")}


# --- notifications ---


@pytest.fixture
async def three(tell, event):
    """Two users of `default` and one of `other`, whose order has an id of the first one's."""
    await tell(event(orderId="o-1", ownerId="u-1"))
    await tell(event(orderId="o-2", ownerId="u-2"))
    await tell(event(orderId="o-1", ownerId="u-1", tenantid="other"))


async def id_of(ask, order, **claims):
    (item,) = (await ask(f"{LIST}?subjectId={order}", "staff", **claims)).json()["items"]
    return item["id"]


@pytest.mark.usefixtures("three")
async def test_a_user_sees_only_the_own(orders_of, ask):
    assert await orders_of(sub="u-1") == ["o-1"]
    assert await orders_of(sub="u-2") == ["o-2"]
    assert await orders_of(sub="u-3") == []
    assert (await ask(f"{LIST}/{await id_of(ask, 'o-1')}", sub="u-1")).json()["subjectId"] == "o-1"


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("query", ["?subjectId=o-2", "?recipientId=c-1&subjectId=o-2", "?channel=email&subjectId=o-2"])
async def test_no_filter_widens_what_a_user_sees(orders_of, query):
    assert await orders_of(query=query, sub="u-1") == []


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("role", ["staff", "admin"])
async def test_staff_sees_the_whole_tenant_and_no_more(orders_of, ask, role):
    assert await orders_of(role, sub="s-1") == ["o-2", "o-1"]
    assert await orders_of(role, sub="s-1", tenant="other") == ["o-1"]
    assert (await ask(f"{LIST}/{await id_of(ask, 'o-2')}", role, sub="s-1")).status_code == 200


@pytest.mark.usefixtures("three")
async def test_somebody_elses_notification_is_refused_as_such(ask):
    answer = await ask(f"{LIST}/{await id_of(ask, 'o-2')}", sub="u-1")
    assert_problem(answer, 403, "not-owner")
    assert answer.json()["detail"] == "It tells of somebody else's business; the role staff is missing."


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("role", ROLES)
async def test_another_tenants_notification_is_refused_as_such(ask, role):
    theirs = await id_of(ask, "o-1", tenant="other")
    answer = await ask(f"{LIST}/{theirs}", role, sub="u-1")
    assert_problem(answer, 403, "different-tenant")
    assert answer.json()["detail"] == "Notification belongs to different tenant"


async def test_what_is_nobodys_is_not_found(ask):
    assert_problem(await ask(f"{LIST}/none"), 404, "notification-not-found")


# --- dead letters ---


@pytest.fixture
def die(tell, ask, event):
    """Puts an event among the dead letters of `kept_by`, and gives that letter."""

    async def put(kept_by, **envelope):
        await tell(event(version=-1) | envelope, to=DEAD)
        return (await ask(LETTERS, "admin", tenant=kept_by)).json()["items"][0]

    return put


@pytest.fixture
def replay(service, issuer):
    return lambda letter: service.post(f"{LETTERS}/{letter['id']}/replay", headers=issuer.bearer("admin"))


async def test_another_tenants_dead_letter_is_neither_listed_nor_replayed(die, ask, replay, sidecar):
    letter = await die("other", tenantid="other")

    assert (await ask(LETTERS, "admin")).json()["items"] == []
    answer = await replay(letter)
    assert_problem(answer, 403, "different-tenant")
    assert answer.json()["detail"] == "Dead letter belongs to different tenant"
    assert sidecar.invoked == []
    assert (await ask(LETTERS, "admin", tenant="other")).json()["items"] == [letter]


async def test_one_event_dead_in_two_tenants_is_kept_for_both(die, ask):
    for tenant in ("default", "other", "other"):
        await die(tenant, id="e-1", tenantid=tenant)
    for tenant in ("default", "other"):
        assert len((await ask(LETTERS, "admin", tenant=tenant)).json()["items"]) == 1


# --- as described ---


async def test_the_description_names_the_refusals(service):
    paths = (await service.get("/openapi.json")).json()["paths"]

    def told(path, status):
        method = "post" if path == REPLAY else "get"
        return paths[path][method]["responses"][status]["description"]

    assert "different-tenant, not-owner" in told(ONE, "403")
    assert "role-missing (user)" in told(ONE, "403")
    assert "different-tenant" in told(REPLAY, "403")
    assert "role-missing (admin)" in told(LETTERS, "403")
