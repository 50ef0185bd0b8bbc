"""The API: lists, single records, and syncs by command."""

import asyncio
from typing import Any

import pytest

from chassis.ids import new_id
from chassis.sidecar import Answer
from stack.eventually import eventually

API = "/api/v1"


async def items(client, path: str, **params: Any) -> list[dict[str, Any]]:
    """Every item, page by page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get(f"{API}/{path}", params=params | cursor)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next"] is None:
            return found
        cursor = {"cursor": answer.json()["next"]}


async def sync(client, entity: str, **params: str) -> dict[str, Any]:
    answer = await client.post(f"{API}/sync/{entity}", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["location"] == f"{API}/sync/logs/{answer.json()['id']}"
    return answer.json()


async def test_it_syncs_at_once_on_start_and_asks_for_every_quarter_of_an_hour(client, sidecar):
    assert len(await items(client, "clients")) == 12
    assert sidecar.jobs["Sync"] == "@every 900s"
    await eventually(lambda: len(sidecar.published) == 12)
    assert {event["type"] for event in sidecar.published} == {"customer.changed.v1"}


async def test_the_scheduler_starts_a_sync_of_everything(client, sidecar):
    sidecar.asked.clear()

    async def everything() -> bool:
        """What the first sync hasn't quite let go of is asked for by the next round."""
        answer = await client.post("/job/Sync", headers={"dapr-api-token": "app-token-of-the-tests"})
        assert answer.status_code == 200
        return {asked.partition("?")[0] for asked in sidecar.asked} == ENTITIES

    await eventually(everything)


ENTITIES = {"clients", "portfolios", "securities", "transactions"}


@pytest.mark.parametrize("entity", sorted(ENTITIES))
async def test_a_list_leads_to_every_record_newest_first(client, sidecar, entity):
    found = await items(client, entity, limit=7)

    assert sorted(row["externalId"] for row in found) == sorted(sidecar.inn8.records(entity)._rows)
    assert [row["id"] for row in found] == sorted((row["id"] for row in found), reverse=True)
    assert (await client.get(f"{API}/{entity}/{found[3]['id']}")).json() == found[3]
    assert await items(client, entity, externalId=found[3]["externalId"]) == [found[3]]


async def test_a_client_as_it_is_shown(client, sidecar):
    sidecar.inn8.put("clients", "C-000001", {"fullName": "Ada", "phoneNumber": "2025550123", "status": "asleep"})
    await sync(client, "clients")
    [shown] = await items(client, "clients", externalId="C-000001")
    address = sidecar.inn8.records("clients").get("C-000001")["address"]
    assert shown == {
        "id": shown["id"],
        "externalId": "C-000001",
        "version": 2,
        "createdAt": shown["createdAt"],
        "updatedAt": shown["updatedAt"],
        "lastSyncDate": shown["updatedAt"],
        "name": "Ada",
        "email": "client1@clients.example",
        "phone": "(202) 555-0123",
        "phoneE164": "+12025550123",
        "address": f"{address['street']}, {address['city']}, {address['state']} {address['zipCode']}",
        "status": "Unknown",
    }
    assert shown in await items(client, "clients", status="Unknown")


async def test_portfolios_by_client_and_transactions_by_portfolio(client, sidecar):
    clients = {row["externalId"]: row["id"] for row in await items(client, "clients")}
    by_client: dict[str, set[str]] = {}
    for row in sidecar.inn8.records("portfolios")._rows.values():
        by_client.setdefault(row["clientId"], set()).add(row["id"])
    for external_id, row_id in clients.items():
        found = await items(client, "portfolios", clientId=row_id)
        assert {row["externalId"] for row in found} == by_client.get(external_id, set())
        assert {row["clientId"] for row in found} <= {row_id}

    portfolio = (await items(client, "transactions"))[0]["portfolioId"]
    [of_portfolio] = [row["externalId"] for row in await items(client, "portfolios") if row["id"] == portfolio]
    wanted = {
        row["id"] for row in sidecar.inn8.records("transactions")._rows.values() if row["portfolioId"] == of_portfolio
    }
    assert {row["externalId"] for row in await items(client, "transactions", portfolioId=portfolio)} == wanted


async def test_a_child_is_held_until_its_parents_have_come_and_again_when_they_have_gone(client, sidecar):
    sidecar.inn8.put("portfolios", "P-LONE", {"clientId": "C-LATE"})
    sidecar.inn8.put("transactions", "T-LONE", {"portfolioId": "P-LONE", "securityId": "S-LATE"})

    async def shown() -> tuple[int, int]:
        return (
            len(await items(client, "portfolios", externalId="P-LONE")),
            len(await items(client, "transactions", externalId="T-LONE")),
        )

    for entity in ("portfolios", "transactions"):
        assert (await sync(client, entity))["errorCount"] == 0
    assert await shown() == (0, 0)
    sidecar.inn8.put("clients", "C-LATE", {})
    await sync(client, "clients")
    assert await shown() == (1, 0)
    sidecar.inn8.put("securities", "S-LATE", {})
    await sync(client, "securities")
    assert await shown() == (1, 1)
    sidecar.inn8.records("clients").delete("C-LATE")
    await sync(client, "clients", mode="full")
    assert await shown() == (0, 0)


async def test_a_sync_by_command_answers_what_came_of_it(client, sidecar):
    sidecar.inn8.put("clients", "C-000002", {"fullName": "Somebody Else"})
    sidecar.inn8.put("clients", "C-NEW", {"fullName": None})
    sidecar.inn8.records("clients").delete("C-000003")

    result = await sync(client, "clients", mode="full")

    told = {name: value for name, value in result.items() if name not in {"id", "startTime", "endTime"}}
    assert told == {
        "entityType": "Client",
        "mode": "full",
        "status": "PartialSuccess",
        "recordCount": 11,
        "inserted": 0,
        "updated": 1,
        "unchanged": 10,
        "deleted": 1,
        "errorCount": 1,
        "errorMessage": None,
    }
    assert (await client.get(f"{API}/sync/logs/{result['id']}")).json() == result
    assert (await items(client, "sync/logs", entity="clients"))[0] == result
    assert [log["id"] for log in await items(client, "sync/logs", status="PartialSuccess")] == [result["id"]]
    failed = await failing(client, sidecar)
    assert (failed["status"], failed["errorMessage"]) == ("Failed", "The source answers 500.")


async def failing(client, sidecar) -> dict[str, Any]:
    sidecar.instead = [Answer(status=500, data=None)]
    return await sync(client, "clients")


async def test_one_that_takes_longer_goes_on_and_keeps_others_away(running, sidecar):
    listed, released = sidecar._listed, asyncio.Event()
    async with running(answer_seconds=0.05) as client:
        await eventually(lambda: all_ended(client))

        async def slow(method, headers):
            await released.wait()
            return await listed(method, headers)

        sidecar._listed = slow
        answer = await client.post(f"{API}/sync/clients")
        assert (answer.status_code, answer.json()["status"], answer.json()["endTime"]) == (202, "InProgress", None)
        refused = await client.post(f"{API}/sync/clients?mode=full")
        assert (refused.status_code, refused.json()["errorType"]) == (409, "sync-running")
        released.set()

        async def ended() -> bool:
            return (await client.get(answer.headers["location"])).json()["status"] == "Success"

        await eventually(ended)


async def all_ended(client) -> bool:
    logs = await items(client, "sync/logs")
    return len(logs) == 4 and {log["status"] for log in logs} == {"Success"}


async def test_the_quarantine_is_looked_at_replayed_and_emptied(client, sidecar):
    for row_id in ("C-000004", "C-000005"):
        sidecar.inn8.put("clients", row_id, {"fullName": None})
    await sync(client, "clients")
    second, first = await items(client, "sync/quarantine", entity="clients", limit=1)
    assert (first["item"], first["reason"]) == ("C-000004", "fullName is missing")
    assert first["payload"] == sidecar.inn8.records("clients").get("C-000004")
    assert await items(client, "sync/quarantine", entity="securities") == []

    refused = await client.post(f"{API}/sync/quarantine/{first['id']}/replay")
    assert (refused.status_code, refused.json()["errorType"]) == (409, "still-invalid")
    assert (await client.delete(f"{API}/sync/quarantine/{second['id']}")).status_code == 204
    assert (await client.delete(f"{API}/sync/quarantine/{second['id']}")).status_code == 404


async def test_a_tenant_sees_its_own_and_has_a_source_of_its_own_or_none(client, issuer):
    known = (await items(client, "clients"))[0]["id"]
    client.headers.update(issuer.bearer("admin", tenant="other"))
    assert await items(client, "clients") == await items(client, "sync/logs") == []
    refused = await client.get(f"{API}/clients/{known}")
    assert (refused.status_code, refused.json()["errorType"]) == (403, "different-tenant")
    refused = await client.post(f"{API}/sync/clients")
    assert (refused.status_code, refused.json()["errorType"]) == (404, "source-not-found")


async def test_what_is_not_there_or_can_not_be_read_is_refused(client):
    for path, status in (
        (f"clients/{new_id()}", 404),
        ("clients/none", 404),
        (f"sync/logs/{new_id()}", 404),
        ("portfolios?clientId=none", 422),
        ("clients?cursor=x", 422),
        ("clients?limit=0", 422),
        ("clients?status=asleep", 422),
    ):
        assert (await client.get(f"{API}/{path}")).status_code == status, path
    for path in ("sync/accounts", "sync/clients?mode=some"):
        assert (await client.post(f"{API}/{path}")).status_code == 422, path


@pytest.fixture
async def staff(client, issuer) -> Any:
    client.headers.update(issuer.bearer("staff"))
    return client


async def test_staff_reads_and_an_admin_does(staff):
    assert (await staff.get(f"{API}/clients")).status_code == 200
    assert (await staff.get(f"{API}/sync/logs")).status_code == 200
    for answer in (
        await staff.post(f"{API}/sync/clients"),
        await staff.get(f"{API}/sync/quarantine"),
        await staff.delete(f"{API}/sync/quarantine/{new_id()}"),
    ):
        assert answer.json()["errorType"] == "role-missing"
