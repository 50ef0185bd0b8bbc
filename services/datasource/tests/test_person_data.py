"""One person at the source: told as a whole to whoever may ask, and, once erased, not taken from it again."""

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from datasource import tables
from datasource.domain import Entity
from datasource.person_data import erase_person, held

PERSON, PATH = "C-000004", "/person-data"
BY_SIDECAR = {"dapr-api-token": "app-token-of-the-tests"}


def erased(person: str = PERSON) -> dict[str, Any]:
    data = {"version": 1, "customerId": person, "erasedAt": datetime.now(UTC).isoformat()}
    head = {"specversion": "1.0", "id": "e-1", "source": "notification-service", "type": "customer.erased.v1"}
    return head | {"tenantid": "default", "data": data}


async def erase(made, tenant: str = "default") -> None:
    await made.db.write(lambda conn: erase_person(conn, tenant, PERSON, at=datetime.now(UTC)))


async def traces(made, words: list[str]) -> list[str]:
    """Rows of any table but portfolios, which stay."""

    def look(conn: sa.Connection) -> list[str]:
        asked = [table for table in tables.metadata.sorted_tables if table is not tables.portfolios]
        rows = [f"{table.name} {row}" for table in asked for row in conn.execute(sa.select(table))]
        return [row for row in rows if any(word in row for word in words)]

    return await made.db.read(look)


@pytest.fixture
def words(sidecar) -> list[str]:
    known = sidecar.inn8.records("clients").get(PERSON)
    return [PERSON, known["fullName"], known["emailAddress"]]


async def test_what_is_held_is_told_to_the_sidecar_alone(client):
    async def asked(person: str, tenant: str = "default") -> dict[str, Any]:
        headers = BY_SIDECAR | {"X-Tenant-Id": tenant}
        return (await client.post(PATH, json={"personId": person}, headers=headers)).raise_for_status().json()["held"]

    shown = (await client.get("/api/v1/portfolios", params={"limit": 100})).json()["items"]
    [known] = (await client.get("/api/v1/clients", params={"externalId": PERSON})).json()["items"]
    told = await asked(PERSON)
    assert [(each["id"], each["email"]) for each in told["clients"]] == [(known["id"], known["email"])]
    owned = {each["id"] for each in shown if each["clientId"] == known["id"]}
    assert {each["id"] for each in told["portfolios"]} == owned != set()
    nothing = {"clients": [], "portfolios": [], "quarantine": []}
    assert await asked("nobody") == await asked(PERSON, tenant="other") == nothing
    assert (await client.post(PATH, json={"personId": PERSON})).status_code == 401


async def test_who_is_erased_by_an_event_is_shown_no_more_and_what_else_is_told_erases_nobody(client):
    async def hear(event: dict[str, Any]) -> str:
        return (await client.post("/events/customers", json=event, headers=BY_SIDECAR)).json()["status"]

    async def shown() -> set[str]:
        listed = await client.get("/api/v1/clients", params={"limit": 100})
        return {each["externalId"] for each in listed.json()["items"]}

    before = await shown()
    assert await hear(erased() | {"type": "customer.changed.v1"}) == "SUCCESS"
    assert await shown() == before
    assert [await hear(erased()) for _ in range(2)] == ["SUCCESS", "SUCCESS"]
    assert await shown() == before - {PERSON}
    assert await hear(erased() | {"data": {"customerId": PERSON}}) == "DROP"


async def test_no_row_tells_of_the_erased_and_no_later_run_brings_them_back(made, sidecar, words):
    await made.sync()
    before, told = await made.rows(Entity.CLIENTS), await made.events()
    assert {row.split()[0] for row in await traces(made, words)} == {"clients", "outbox"}

    await erase(made)
    sidecar.inn8.put("clients", PERSON, {"fullName": "Ada again"})
    incremental, full = await made.sync(), await made.sync(mode="full")

    assert await traces(made, [*words, "Ada again"]) == []
    assert set(await made.rows(Entity.CLIENTS)) == set(before) - {PERSON}
    assert await made.events() == [each for each in told if each[0] != PERSON]
    assert (incremental.status, full.status, full.unchanged, full.deleted) == ("Success", "Success", 12, 0)


async def test_nor_does_what_can_not_be_taken_of_them(made, sidecar, words):
    sidecar.inn8.put("clients", PERSON, {"fullName": None})
    await made.sync()
    [item] = (await made.db.read(lambda conn: held(conn, "default", PERSON)))["quarantine"]
    assert item["payload"]["emailAddress"] in words

    await erase(made)
    log = await made.sync(mode="full")

    assert await traces(made, words) == []
    assert (log.status, log.errors) == ("Success", 0)


async def test_one_who_is_erased_before_the_source_shows_them_is_not_taken_and_another_tenants_is(made, words):
    await erase(made, tenant="other")
    await made.sync()
    assert PERSON in await made.rows(Entity.CLIENTS)

    await erase(made)
    await made.sync(mode="full")
    assert await traces(made, words) == []
