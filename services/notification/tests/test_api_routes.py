"""The routing table over HTTP: what is told changes without code, and nobody overwrites another's change."""

import json
import sqlite3
from contextlib import closing

import pytest

from chassis.ids import new_id
from chassis.paging import encode_keys
from stack.eventually import eventually

ROUTES, LIST = "/api/v1/routes", "/api/v1/notifications"
MESSAGE = {"channel": "email", "category": "System", "template": "test"}
NEW = {
    "topic": "orders",
    "type": "order.praised.v1",
    "subjectId": "orderId",
    "ownerId": "ownerId",
    "contact": {"id": "customer.id", "name": "customer.name", "email": "customer.email"},
    "messages": [MESSAGE],
}
HALF = "\ud800"  # of a surrogate pair
CONFIRMED = "order.confirmed.v1"


def put(client, route, version=0, **headers):
    return client.put(ROUTES, json={"route": route, "version": version}, **headers)


def drop(client, version, event_type=NEW["type"]):
    return client.delete(ROUTES, params={"topic": "orders", "type": event_type, "version": version})


async def told(client, event, kind):
    """How many notifications one more event of a kind makes."""
    order = new_id()
    assert (await client.post("/events/orders", json=event(kind, orderId=order))).json() == {"status": "SUCCESS"}
    return len((await client.get(LIST, params={"subjectId": order})).json()["items"])


async def known(client, kind):
    items = (await client.get(ROUTES)).json()["items"]
    return [(item["version"], item["route"]) for item in items if item["route"]["type"] == kind]


async def test_a_new_event_is_told_without_code(client, event, inbox):
    assert await told(client, event, NEW["type"]) == 0

    answer = await put(client, NEW)

    assert (answer.status_code, answer.json()["version"]) == (200, 1)
    await eventually(lambda: told(client, event, NEW["type"]))
    await eventually(lambda: inbox.mails)
    assert inbox.mails[0]["Subject"] == "A test"


async def test_a_tenants_own_route_takes_the_place_of_the_shipped_one_until_it_is_dropped(client, event):
    (shipped,) = await known(client, CONFIRMED)
    assert shipped[0] == 0
    assert await told(client, event, CONFIRMED) == 1

    await put(client, NEW | {"type": CONFIRMED, "messages": []})
    await eventually(lambda: _tells(client, event, 0))
    assert (await drop(client, 1, CONFIRMED)).status_code == 204
    await eventually(lambda: _tells(client, event, 1))
    assert await known(client, CONFIRMED) == [shipped]


async def _tells(client, event, number):
    return await told(client, event, CONFIRMED) == number


async def test_a_route_is_its_tenants_own(client, issuer):
    await put(client, NEW)
    other = issuer.bearer("admin", tenant="other")
    items = (await client.get(ROUTES, headers=other)).json()["items"]
    assert NEW["type"] not in [item["route"]["type"] for item in items]
    assert (await put(client, NEW, headers=other)).json()["version"] == 1


async def test_whoever_read_an_older_version_is_told_the_current_one(client):
    assert (await put(client, NEW)).json()["version"] == 1
    assert (await put(client, NEW, 1)).json()["version"] == 2
    for stale in (
        await put(client, NEW, 0),
        await put(client, NEW, 1),
        await put(client, NEW, 7),
        await drop(client, 1),
    ):
        assert (stale.status_code, stale.json()["errorType"]) == (409, "concurrency-conflict")
        assert stale.json()["currentVersion"] == 2
    ((version, _),) = await known(client, NEW["type"])
    assert version == 2


async def test_what_is_not_there_has_version_0(client):
    for answer in (await put(client, NEW, 3), await drop(client, 3)):
        assert (answer.status_code, answer.json()["currentVersion"]) == (409, 0)


async def test_after_a_drop_it_may_be_put_again(client):
    await put(client, NEW)
    assert (await drop(client, 1)).status_code == 204
    assert await known(client, NEW["type"]) == []
    assert (await put(client, NEW)).json()["version"] == 1


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"topic": "Orders"}, "/route/topic"),
        ({"subjectID": "orderId"}, "/route/subjectID"),
        ({"messages": [{"channel": "pigeon", "category": "System", "template": "t"}]}, "/route/messages/0/channel"),
        (
            {"messages": [{"channel": "sms", "chain": ["email", "email"], "category": "S", "template": "t"}]},
            "/route/messages/0/chain",
        ),
        ({"contact": {"id": "a..b"}}, "/route/contact/id"),
        ({"messages": [MESSAGE | {"when": {"status": HALF}}]}, "/route/messages/0/when/status"),
        ({"messages": [MESSAGE | {"set": {"status": HALF}}]}, "/route/messages/0/set/status"),
    ],
)
async def test_a_route_that_could_tell_nothing_is_refused_by_name(client, changed, pointer):
    body = json.dumps({"route": NEW | changed, "version": 0})  # httpx refuses to write half a surrogate pair
    answer = await client.put(ROUTES, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert await known(client, NEW["type"]) == []


LOAN = {"topic": "loan-origination", "type": "LoanApplicationCreated", "subjectId": "applicationId"}
APPLIED = LOAN | {"contact": {"id": "customerId", "name": "customerName"}, "correlationId": "eventId"}


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"subjectId": "aplicationId"}, "/route/subjectId"),
        ({"correlationId": "event_id"}, "/route/correlationId"),
        ({"contact": {"id": "customerID"}}, "/route/contact/id"),
        ({"contact": {"id": "customerId", "phone": "customer.phone"}}, "/route/contact/phone"),
        ({"messages": [MESSAGE | {"when": {"product": "Payroll"}}]}, "/route/messages/0/when/product"),
        ({"messages": [MESSAGE, MESSAGE | {"group": "branch:{branch}"}]}, "/route/messages/1/group"),
    ],
)
async def test_a_misspelt_field_of_an_event_that_we_know_is_refused_before_any_is_delivered(client, changed, pointer):
    answer = await client.put(ROUTES, json={"route": APPLIED | changed, "version": 0})
    assert (answer.status_code, [error["pointer"] for error in answer.json()["errors"]]) == (422, [pointer])
    assert (await client.put(ROUTES, json={"route": APPLIED, "version": 0})).status_code == 200


# --- the sagas that routes with steps begin ---

APPLICATION = {
    "applicationId": "L-1",
    "customerId": "c-1",
    "customerName": "Ada",
    "customerPhone": "+254712345678",
    "customerEmail": "ada@example.com",
    "branchId": "B-1",
    "eventId": "corr-1",
}


@pytest.fixture
async def begun(client):
    body = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "loans",
        "type": "LoanApplicationCreated",
        "topic": "loan-origination",
        "data": APPLICATION,
    }
    assert (await client.post("/events/loan-origination", json=body)).json() == {"status": "SUCCESS"}
    return client


async def test_a_saga_shows_how_far_it_has_come(begun, sidecar):
    saga = (await begun.get("/api/v1/sagas/corr-1")).json()

    assert (saga["correlationId"], saga["type"], saga["subjectId"]) == ("corr-1", "LoanApplicationCreated", "L-1")
    assert (saga["recipientId"], saga["currentStep"], saga["steps"]) == ("c-1", "CustomerNotification", [])
    assert (saga["completedAt"], saga["version"]) == (None, 1)
    assert "ada@example.com" not in str(saga)
    await eventually(lambda: sidecar.workflows, every=0.01)


@pytest.mark.parametrize(
    ("role", "claims", "told"),
    [
        ("user", {"sub": "c-1"}, (200, None)),
        ("user", {"sub": "u-9"}, (403, "not-owner")),
        ("staff", {"sub": "s-1"}, (200, None)),
        ("staff", {"sub": "s-1", "tenant": "other"}, (403, "different-tenant")),
    ],
)
async def test_a_saga_is_its_recipients_and_staffs(begun, issuer, role, claims, told):
    answer = await begun.get("/api/v1/sagas/corr-1", headers=issuer.bearer(role, **claims))
    assert (answer.status_code, answer.json().get("errorType")) == told


async def test_sagas_are_listed_newest_first_and_by_where_they_stand(begun):
    another = APPLICATION | {"eventId": "corr-2"}
    body = {"specversion": "1.0", "id": "e-2", "source": "loans", "type": "LoanApplicationCreated", "data": another}
    await begun.post("/events/loan-origination", json=body | {"topic": "loan-origination"})

    async def page(**query):
        answer = (await begun.get("/api/v1/sagas", params=query)).json()
        return [saga["id"] for saga in answer["items"]], answer["next"]

    first, following = await page(limit=1)
    assert (first, await page(limit=1, cursor=following)) == (["corr-2"], (["corr-1"], None))
    assert await page(status="running") == (["corr-2", "corr-1"], None)
    assert await page(status="failed") == ([], None)
    for cursor in ("x", encode_keys("a"), encode_keys("1", "b"), encode_keys("0001-01-01T00:00:00+14:00", "b")):
        refused = await begun.get("/api/v1/sagas", params={"cursor": cursor})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "?cursor")


async def test_a_saga_that_runs_is_not_tried_again(begun):
    answer = await begun.post("/api/v1/sagas/corr-1/retry")
    assert (answer.status_code, answer.json()["errorType"], answer.json()["current"]) == (
        409,
        "saga-not-failed",
        "running",
    )


async def test_an_unknown_saga_is_a_404(client):
    answer = await client.get("/api/v1/sagas/none")
    assert (answer.status_code, answer.json()["errorType"]) == (404, "saga-not-found")


@pytest.mark.parametrize("pattern", ["routes:orders:*", "*"])
async def test_what_was_changed_behind_the_services_back_holds_once_the_cache_is_cleared(
    client, event, database_url, pattern
):
    assert await told(client, event, NEW["type"]) == 0
    row = ("default", "orders", NEW["type"], json.dumps(NEW), 1, "2026-01-01 00:00:00")
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=10)) as connection, connection:
        connection.execute(
            "INSERT INTO routes (tenant, topic, type, document, version, updated_at) VALUES (?, ?, ?, ?, ?, ?)", row
        )
    assert await told(client, event, NEW["type"]) == 0

    assert (await client.post("/api/v1/cache/clear", params={"pattern": "templates:*"})).status_code == 200
    assert await told(client, event, NEW["type"]) == 0
    assert (await client.post("/api/v1/cache/clear", params={"pattern": pattern})).status_code == 200
    assert await told(client, event, NEW["type"]) == 1
