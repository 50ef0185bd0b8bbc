"""One person in every service: handed out as a whole, and then gone from all of them."""

import httpx
import sqlalchemy as sa
from brewery import BACKOFFICE, DATASOURCE, NOTIFICATION, ORDER, PAYMENT, Brewery, Notices, bearer, client_of

import backoffice.tables
import notification.tables
import order.tables
import payment.tables
from chassis.ids import new_id
from stack.eventually import eventually

TABLES = {
    NOTIFICATION: notification.tables.metadata,
    ORDER: order.tables.metadata,
    PAYMENT: payment.tables.metadata,
    BACKOFFICE: backoffice.tables.metadata,
}


def rows_with(brew: Brewery, words: list[str]) -> list[str]:
    """Of all tables of all services, but for the event that has to name whom it tells of."""
    found = [
        f"{service} {table.name} {dict(row)}"
        for service, tables in TABLES.items()
        for table in tables.sorted_tables
        for row in brew.rows(service, str(sa.select(table).compile()))
    ]
    return [row for row in found if "customer.erased.v1" not in row and any(word in row for word in words)]


async def test_a_person_is_handed_out_as_a_whole_and_erased_everywhere(brew: Brewery, notices: Notices) -> None:
    person = f"p-{new_id()}"
    traces = [person, f"Grace-{person[-6:]}", f"{person}@people.example"]
    placed = await brew.place(id=person, name=traces[1], email=traces[2])
    assert placed.status_code == 201
    order_id = placed.json()["id"]
    await brew.mailed(order_id)
    path = f"/api/v1/recipients/{person}"
    async with client_of(brew.stack, BACKOFFICE, bearer(brew.stack, "user", sub=person)) as client:
        form = {"file": ("letter.pdf", b"%PDF-1.7\n%%EOF")}
        assert (await client.post("/api/v1/files", files=form)).status_code == 201
    async with client_of(brew.stack, BACKOFFICE, bearer(brew.stack, "admin")) as admin:
        wanted = {"kind": "orders", "format": "csv", "userId": person, "filters": {"from": placed.json()["createdAt"]}}
        job = f"/api/v1/jobs/{(await admin.post('/api/v1/exports', json=wanted)).json()['jobId']}"

        async def is_made() -> str | None:
            return (await admin.get(job)).json()["resultUrl"]

        link = await eventually(is_made)

    told = (await notices.client.get(f"{path}/export")).raise_for_status().json()["services"]
    assert [each["id"] for each in told[ORDER]["orders"]] == [order_id]
    assert [each["originalFileName"] for each in told[BACKOFFICE]["files"]] == ["letter.pdf"]
    assert [each["status"] for each in told[BACKOFFICE]["exports"]] == ["Completed"]
    assert told[DATASOURCE]["clients"] == [], "INN8 does not know them"
    assert told[NOTIFICATION]["contact"][0]["email"] == traces[2]
    assert all(rows_with(brew, [trace]) for trace in traces)

    assert (await notices.client.delete(path)).status_code == 204

    def gone() -> bool:
        assert rows_with(brew, traces) == []
        return True

    await eventually(gone)
    async with httpx.AsyncClient(trust_env=False) as anybody:
        assert (await anybody.get(link)).status_code == 410
    kept = await brew.order(order_id)
    assert (kept["customer"]["id"], kept["total"], kept["status"]) == ("erased", placed.json()["total"], "confirmed")
    assert (await notices.client.get(path)).status_code == 404
    late = {"version": 1, "customerId": person, "name": traces[1], "email": traces[2]}
    event = {"specversion": "1.0", "id": new_id(), "source": "datasource-service", "type": "customer.changed.v1"}
    await brew.publish(event | {"time": placed.json()["createdAt"], "data": late}, topic="customers")
    await eventually(lambda: brew.processed([event["id"]]))
    assert (await notices.client.get(path)).status_code == 404
