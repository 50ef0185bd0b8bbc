"""Templates over HTTP: what is no template is refused with pointers, and nothing is published that isn't proven."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import Request

from chassis.cache import Cache
from chassis.changes.feed import Changes
from chassis.db import Database
from chassis.edge.auth import Caller, Role
from chassis.leases import Leases
from chassis.outbox import Outbox
from chassis.problems import Problem
from notification import tables
from notification.announcements import Announcements
from notification.api import templates as api
from notification.domain import ConcurrencyConflict, UnknownTemplate
from notification.templates.catalog import Catalog
from notification.unit_of_work import Units
from stack.fake_sidecar import FakeSidecar

REFUSALS: dict[type[Exception], Problem] = {
    UnknownTemplate: Problem(status=404, error_type="template-not-found", title="Template not found"),
    ConcurrencyConflict: Problem(status=409, error_type="concurrency-conflict", title="It has changed meanwhile"),
}
OFFER: dict[str, Any] = {
    "category": "Marketing",
    "name": "offer",
    "locale": "en",
    "source": {"subject": "{{ name }}, look", "text": "{{ drink }} today", "sms": "{{ drink }} today, {{ name }}"},
    "sample": {"name": "Ada", "drink": "Latte"},
}
PATH = "/api/v1/templates/Marketing/offer"


def whoever_says_so(request: Request) -> Caller:
    return Caller(
        tenant=request.headers.get("x-tenant", "default"),
        tenant_name="Default",
        subject="a-1",
        roles=frozenset({Role.ADMIN}),
    )


@pytest.fixture
def catalog(db: Database, changes: Changes) -> Catalog:
    return Catalog(db, Cache(sidecar=FakeSidecar(), store="statestore", changes=changes, name="templates"))


@pytest.fixture
def changes(db: Database) -> Changes:
    return Changes(db=db, table=tables.changes, leases=Leases(db, tables.leases))


@pytest.fixture
async def client(db: Database, catalog: Catalog, changes: Changes, routed: Any) -> AsyncIterator[httpx.AsyncClient]:
    outbox = Outbox(
        db=db, table=tables.outbox, leases=Leases(db, tables.leases), sidecar=FakeSidecar(), pubsub="pubsub"
    )
    units = Units(db, Announcements(outbox=outbox, changes=changes))
    app = routed(api.router, who=whoever_says_so, units=units, catalog=catalog)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def create(client: httpx.AsyncClient, **changed: Any) -> httpx.Response:
    return await client.post("/api/v1/templates", json=OFFER | changed)


async def publish(client: httpx.AsyncClient, version: int) -> httpx.Response:
    return await client.post(f"{PATH}/publish", json={"locale": "en", "version": version})


def pointers(answer: httpx.Response) -> list[str]:
    assert (answer.status_code, answer.json()["errorType"]) == (422, "invalid-request")
    return [error["pointer"] for error in answer.json()["errors"]]


async def test_a_templates_language_is_taken_as_a_phone_says_it(client: httpx.AsyncClient) -> None:
    made = await create(client, locale="en-US-u-mu-celsius")
    assert (made.status_code, made.json()["locale"]) == (201, "en-US")
    assert pointers(await create(client, locale="en-XX-u-mu-celsius")) == ["/locale"]


async def test_a_template_is_made_revised_and_published(client: httpx.AsyncClient, catalog: Catalog) -> None:
    made = await create(client)
    assert made.status_code == 201
    assert {"version": 1, "status": "draft", "author": "a-1"}.items() <= made.json().items()
    revised = await client.put(
        PATH, json={"locale": "en", "version": 1, "source": {"text": "Now {{ drink }}"}, "sample": {"drink": "Latte"}}
    )
    assert (revised.status_code, revised.json()["version"]) == (200, 2)
    assert await catalog.find("default", "Marketing", "offer", "en") is None
    published = await publish(client, 2)
    assert (published.status_code, published.json()["status"]) == (200, "published")
    found = await catalog.find("default", "Marketing", "offer", "en-GB")
    assert found is not None
    assert found.source.text == "Now {{ drink }}"
    shown = (await client.get(PATH, params={"version": 1})).json()
    assert (shown["status"], shown["source"]["text"], shown["sample"]) == (
        "draft",
        OFFER["source"]["text"],
        OFFER["sample"],
    )


async def test_publishing_is_heard_from_its_own_transaction(client: httpx.AsyncClient, db: Database) -> None:
    await create(client)
    assert (await publish(client, 1)).status_code == 200
    told = await db.read(lambda conn: conn.execute(sa.select(tables.changes.c.key)).scalars().all())
    assert told == ["default:templates:Marketing:offer"]


async def test_a_shipped_template_is_made_ones_own_by_a_put_of_version_0(client: httpx.AsyncClient) -> None:
    path = "/api/v1/templates/OrderUpdates/order-confirmed"
    ships = (await client.get(path)).json()
    assert (ships["version"], ships["status"], ships["createdAt"]) == (0, "shipped", None)
    body = {"locale": "en", "version": ships["version"], "source": ships["source"], "sample": ships["sample"]}
    assert (await client.put(path, json=body)).json()["version"] == 1
    assert (await client.post(f"{path}/publish", json={"locale": "en", "version": 1})).status_code == 200


async def test_a_version_that_is_not_the_newest_is_a_conflict(client: httpx.AsyncClient) -> None:
    await create(client)
    again = await create(client)
    assert (again.status_code, again.json()["errorType"]) == (409, "concurrency-conflict")
    assert again.json()["currentVersion"] == 1


async def test_missing_variables_are_refused_at_publishing_with_their_parts(client: httpx.AsyncClient) -> None:
    assert (await create(client, sample={"name": "Ada"})).status_code == 201
    refused = await publish(client, 1)
    assert pointers(refused) == ["/source/text", "/source/sms"]
    assert all("drink" in error["detail"] for error in refused.json()["errors"])
    assert (await client.get(PATH)).json()["status"] == "draft"


@pytest.mark.parametrize("source", ["{{ name", "{% for x in y %}", "{{ name.upper() }}"])
async def test_what_is_no_template_is_not_even_kept_as_a_draft(client: httpx.AsyncClient, source: str) -> None:
    assert set(pointers(await create(client, source={"text": "well", "html": source}))) == {"/source/html"}
    assert (await client.get(PATH)).status_code == 404


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"category": "no spaces"}, "/category"),
        ({"name": "9lives"}, "/name"),
        ({"locale": "pt-XX"}, "/locale"),
        ({"source": {"text": "x" * 65_537}}, "/source/text"),
        ({"source": {"html": "x" * 262_145}}, "/source/html"),
        ({"source": {"body": "x"}}, "/source/body"),
        ({"sample": {"number": 2**70}}, "/sample"),
        ({"sample": {"long": "x" * 65_536}}, "/sample"),
    ],
)
async def test_a_bad_body_is_refused_where_it_is_bad(
    client: httpx.AsyncClient, changed: dict[str, Any], pointer: str
) -> None:
    assert pointers(await create(client, **changed)) == [pointer]


async def test_a_locale_is_kept_by_its_tag(client: httpx.AsyncClient) -> None:
    assert (await create(client, locale="pt_br")).json()["locale"] == "pt-BR"
    assert (await client.get(PATH, params={"locale": "PT_BR"})).status_code == 200


async def test_the_list_goes_page_by_page_through_own_and_shipped_ones(client: httpx.AsyncClient) -> None:
    await create(client)
    whole = (await client.get("/api/v1/templates", params={"limit": 100})).json()
    assert whole["next"] is None
    assert {"draft", "shipped"} == {one["status"] for one in whole["items"]}
    assert "source" not in whole["items"][0]
    paged: list[Any] = []
    params: dict[str, Any] = {"limit": 4}
    while True:
        page = (await client.get("/api/v1/templates", params=params)).json()
        paged += page["items"]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert paged == whole["items"]
    drafts = (await client.get("/api/v1/templates", params={"status": "draft"})).json()["items"]
    assert [one["name"] for one in drafts] == ["offer"]


async def test_versions_are_listed_newest_first(client: httpx.AsyncClient) -> None:
    await create(client)
    for version in (1, 2):
        await client.put(PATH, json={"locale": "en", "version": version, "source": {"text": "x"}, "sample": {}})
    first = (await client.get(f"{PATH}/versions", params={"limit": 2})).json()
    assert [one["version"] for one in first["items"]] == [3, 2]
    last = (await client.get(f"{PATH}/versions", params={"limit": 2, "cursor": first["next"]})).json()
    assert ([one["version"] for one in last["items"]], last["next"]) == ([1], None)


@pytest.mark.parametrize("cursor", ["x", "bnVsbA", "WzFd", "%00", "é"])
async def test_a_cursor_that_is_not_ours_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    assert pointers(await client.get("/api/v1/templates", params={"cursor": cursor})) == ["?cursor"]


async def test_another_tenant_sees_nothing_of_it(client: httpx.AsyncClient) -> None:
    await create(client)
    theirs = {"x-tenant": "other"}
    assert (await client.get(PATH, headers=theirs)).status_code == 404
    assert (await client.get("/api/v1/templates?status=draft", headers=theirs)).json()["items"] == []
    assert (await client.post(f"{PATH}/preview", json={}, headers=theirs)).status_code == 404


# --- previews ---


async def test_a_preview_shows_every_part_and_the_length_of_the_text_message(client: httpx.AsyncClient) -> None:
    source = {"subject": "For {{ name }}", "html": "<p>{{ name }}</p>", "sms": "Olá {{ name }} ✓"}
    body = {"source": source, "sample": {"name": "<Ada>"}, "locale": "pt_BR"}
    shown = (await client.post("/api/v1/templates/preview", json=body)).json()
    assert (shown["subject"], shown["html"], shown["locale"]) == ("For <Ada>", "<p>&lt;Ada&gt;</p>", "pt-BR")
    assert shown["sms"] == {"text": "Olá <Ada> ✓", "encoding": "UCS-2", "segments": 1, "units": 11}
    assert shown["errors"] == []


async def test_a_preview_tells_what_is_missing_and_shows_the_rest(client: httpx.AsyncClient) -> None:
    source = {"subject": "Hello {{ name }}", "text": "{{ drink.price }}"}
    body = {"source": source, "sample": {"name": "Ada", "drink": {}}}
    shown = (await client.post("/api/v1/templates/preview", json=body)).json()
    assert (shown["subject"], shown["text"]) == ("Hello Ada", "")
    assert [error["pointer"] for error in shown["errors"]] == ["/source/text"]
    assert "'price'" in shown["errors"][0]["detail"]


async def test_a_stored_version_is_previewed_with_its_own_sample_or_another(client: httpx.AsyncClient) -> None:
    await create(client)
    assert (await client.post(f"{PATH}/preview", json={})).json()["text"] == "Latte today"
    other = {"version": 1, "sample": {"name": "Bo", "drink": "Mocha"}}
    assert (await client.post(f"{PATH}/preview", json=other)).json()["text"] == "Mocha today"
    assert (await client.post(f"{PATH}/preview", json={"version": 9})).status_code == 404


async def test_a_template_without_end_is_stopped_in_its_preview(client: httpx.AsyncClient) -> None:
    loops = "{% for a in l %}{% for b in l %}{% for c in l %}{% endfor %}{% endfor %}{% endfor %}"
    body = {"source": {"text": loops, "push": "fine"}, "sample": {"l": list(range(100))}}
    shown = (await client.post("/api/v1/templates/preview", json=body)).json()
    assert (shown["text"], shown["push"]) == ("", "fine")
    assert shown["errors"] == [{"pointer": "/source/text", "detail": "time limit"}]
