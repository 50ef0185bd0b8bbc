"""One person's data: what is told of it, and that nothing of it is left once it was erased."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from chassis.ids import now
from chassis.sidecar import Answer
from notification import tables
from stack.eventually import eventually

EXPORT, PERSON = "/api/v1/recipients/c-1/export", "/api/v1/recipients/c-1"
HELD_BY_ORDER = "order-service/person-data"
# An id of ours may have `c-1` within, as in `…-a0fc-1fdd…`.
TRACES = re.compile(r"c-1(?![0-9a-f])|Ada|ada@example\.com|\+12025550123")


@pytest.fixture
def order_holds(sidecar) -> dict[str, Any]:
    held = {"orders": [{"id": "o-1"}]}
    sidecar.answers[HELD_BY_ORDER] = Answer(status=200, data={"held": held})
    return held


async def deliver(client, event: dict[str, Any], topic: str = "orders") -> None:
    assert (await client.post(f"/events/{topic}", json=event)).json() == {"status": "SUCCESS"}


def changed(at: datetime, **known: str) -> dict[str, Any]:
    head = {"specversion": "1.0", "id": f"e-{at}", "source": "datasource-service", "type": "customer.changed.v1"}
    data = {"version": 7, "customerId": "c-1", "name": "Ada", "email": "ada@example.com", **known}
    return head | {"time": at.isoformat(), "data": data}


async def dump(db) -> str:
    """Every row of every table, but the event that has to name whom it tells of."""

    def look(conn: sa.Connection) -> str:
        found = [str(row) for table in tables.metadata.sorted_tables for row in conn.execute(sa.select(table))]
        return "\n".join(row for row in found if "customer.erased.v1" not in row)

    return await db.read(look)


@pytest.fixture
async def db(client, settings):  # noqa: ARG001  the service that has it
    """The running service's own file, read beside it."""
    engine = sa.create_engine(settings.database_url)

    class Beside:
        async def read(self, work):
            with engine.connect() as conn:
                return work(conn)

    yield Beside()
    engine.dispose()


async def fill(client, inbox, event) -> None:
    """One person in everything: a contact with wishes and a group, mails sent and queued, a reset, a dead letter, and
    one from which somebody has edited them away."""
    known = {"name": "Ada", "email": "ada@example.com", "phone": "+12025550123", "groups": ["branch:B-1"], "version": 0}
    assert (await client.put(PERSON, json=known)).status_code == 200
    wishes = {"timeZone": "Europe/Berlin", "version": 0}
    assert (await client.put(f"{PERSON}/preferences", json=wishes)).status_code == 200
    await deliver(client, event())
    await client.post("/api/v1/password-resets", json={"email": "ada@example.com"})
    for dead in ("dead-1", "dead-2"):
        await client.post("/events/dead/order-service/orders", json=event(id=dead))
    edited = (await client.get("/api/v1/dead-letters")).json()["items"][0]["id"]
    edit = {"data": {"version": 2}, "version": 1}
    assert (await client.put(f"/api/v1/dead-letters/{edited}", json=edit)).status_code == 200
    command = {"eventId": "welcome-c-1", "recipientId": "c-1", "channel": "email"}
    command |= {"templateCategory": "System", "templateName": "test"}
    assert (await client.post("/api/v1/notifications", json=command)).status_code == 202

    async def all_sent() -> bool:
        listed = (await client.get("/api/v1/notifications")).json()["items"]
        return len(inbox.mails) == len(listed) == 3 and {one["status"] for one in listed} == {"sent"}

    await eventually(all_sent)


async def test_all_that_is_held_is_told(client, inbox, event, order_holds, sidecar):
    await fill(client, inbox, event)

    told = (await client.get(EXPORT)).json()

    own = told["services"]["notification-service"]
    assert told["customerId"] == "c-1"
    assert told["services"]["order-service"] == order_holds
    assert (own["contact"][0]["email"], own["groups"]) == ("ada@example.com", [{"groupName": "branch:B-1"}])
    assert "Europe/Berlin" in own["preferences"][0]["document"]
    assert len(own["passwordResets"]) == 1
    assert any("Ada" in (message["content"] or "") for message in own["notifications"])
    assert sidecar.headers[-1]["X-Tenant-Id"] == "default"


async def test_a_part_is_never_told_as_the_whole(client, sidecar):
    for answer in (Answer(status=200, data=None), Answer(status=500, data={"errorCode": "ERR_DIRECT_INVOKE"})):
        sidecar.answers[HELD_BY_ORDER] = answer
        refused = await client.get(EXPORT)
        assert (refused.status_code, refused.json()["errorType"]) == (503, "order-service-unavailable")


async def test_nothing_of_an_erased_person_is_left_and_others_hear_of_it(client, inbox, event, db, sidecar):
    await fill(client, inbox, event)
    before = await dump(db)
    assert set(TRACES.findall(before)) == {"c-1", "Ada", "ada@example.com", "+12025550123"}

    assert (await client.delete(PERSON)).status_code == 204

    left = await dump(db)
    assert [row for row in left.split("\n") if TRACES.search(row)] == []
    assert "o-1" in left, "what it was about stays"
    [told] = await eventually(lambda: [one for one in sidecar.published if one["type"] == "customer.erased.v1"])
    assert (told["subject"], told["data"]["customerId"], told["data"]["version"]) == ("c-1", "c-1", 1)
    assert (await client.get(PERSON)).status_code == 404
    again = await client.delete(PERSON)
    assert again.status_code == 204


async def test_nothing_is_sent_any_more_to_an_erased_person(client, inbox, event, db):
    inbox.hold.clear()  # one is in hand, and its server has not answered yet
    await client.put(PERSON, json={"email": "ada@example.com", "version": 0})
    await deliver(client, event())

    query = sa.select(tables.notifications.c.status)

    async def in_hand() -> bool:
        return "sending" in await db.read(lambda conn: list(conn.execute(query).scalars()))

    await eventually(in_hand)
    assert (await client.delete(PERSON)).status_code == 204
    inbox.hold.set()
    await eventually(lambda: len(inbox.mails) == 1)  # it was on its way

    rows = await db.read(lambda conn: list(conn.execute(sa.select(tables.notifications))))
    assert {(row.status, row.error, row.address, row.content) for row in rows} == {("suppressed", "erased", "", None)}


async def test_what_is_older_than_the_erasure_brings_nobody_back_and_what_is_newer_does(client, event, db):
    before = now() - timedelta(minutes=1)
    await deliver(client, changed(before), "customers")
    await client.delete(PERSON)

    await deliver(client, changed(before + timedelta(seconds=1)), "customers")
    late = event() | {"time": before.isoformat()}
    await deliver(client, late)

    assert (await client.get(PERSON)).status_code == 404
    assert await db.read(lambda conn: conn.execute(sa.select(tables.notifications)).all()) == []
    await deliver(client, changed(datetime.now(UTC) + timedelta(seconds=1), name="Ada again"), "customers")
    assert (await client.get(PERSON)).json()["name"] == "Ada again"


async def test_an_order_of_an_erased_person_goes_on_and_tells_nobody(client, event, db):
    nobody = {"id": "erased", "name": "", "email": ""}
    await deliver(client, event("order.status-changed.v1", status="ready", customer=nobody))

    assert await db.read(lambda conn: conn.execute(sa.select(tables.notifications)).all()) == []
    assert (await client.get("/api/v1/recipients/erased")).status_code == 404


async def test_another_persons_things_stay(client, event, db):
    await client.put("/api/v1/recipients/c-10", json={"name": "Bo", "email": "bo@example.com", "version": 0})
    await deliver(client, event(orderId="o-2", customer={"id": "C-1", "name": "Cy", "email": "cy@example.com"}))
    await client.post("/events/dead/order-service/orders", json=event(customer={"id": "C-1", "name": "Cy"}))

    async def sent() -> list[str]:
        contents = sa.select(tables.notifications.c.content)
        return [words for words in await db.read(lambda conn: list(conn.execute(contents).scalars())) if words]

    [words] = await eventually(sent)

    await client.delete(PERSON)

    left = await dump(db)
    assert await sent() == [words]
    assert await db.read(lambda conn: len(conn.execute(sa.select(tables.dead_letters)).all())) == 1
    assert all(trace in left for trace in ("c-10", "bo@example.com", "C-1", "Cy", "cy@example.com"))
