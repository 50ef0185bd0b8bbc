"""What can't be taken: kept, and let out by whoever can."""

import pytest

from datasource.domain import Entity, NotFound, OfOtherTenant, StillInvalid
from datasource.quarantine import Quarantine
from sandbox.inn8 import Manner

REASON = "fullName is missing"


@pytest.fixture
def quarantine(made):
    return Quarantine(made.db, made.services.outbox, "default")


async def kept(quarantine):
    return {one.item: one for one in await quarantine.page(entity=None, before=None, limit=100)}


async def test_the_newest_word_of_an_item_is_kept_with_its_reason(made, sidecar, quarantine):
    sidecar.inn8.put("clients", "C-000004", {"fullName": None})
    await made.sync()
    first = (await kept(quarantine))["C-000004"]
    assert (first.entity, first.reason, first.payload["id"]) == (Entity.CLIENTS, REASON, "C-000004")

    sidecar.inn8.put("clients", "C-000004", {"fullName": 5})
    await made.sync()

    [again] = (await kept(quarantine)).values()
    assert (again.id, again.reason) == (first.id, "fullName is no text")
    assert again.seen_at > first.seen_at >= again.created_at == first.created_at


async def test_an_item_without_an_id_is_one_item_however_often_it_comes(made, sidecar, quarantine):
    sidecar.inn8.behave(Manner(rows={"securities": 1}))
    row = sidecar.inn8.records("securities").get("S-000001")
    row["id"] = None
    for _ in range(2):
        await made.sync(Entity.SECURITIES, mode="full")
    [item] = await kept(quarantine)
    assert len(item) == 64


async def test_a_better_word_of_the_source_lets_it_out(made, sidecar, quarantine):
    sidecar.inn8.put("clients", "C-000004", {"fullName": None})
    await made.sync()
    sidecar.inn8.put("clients", "C-000004", {"fullName": "Ada"})
    assert (await made.sync()).status == "Success"
    assert await kept(quarantine) == {}


async def test_what_was_good_before_stays_as_it_was_and_is_not_taken_for_deleted(made, sidecar):
    await made.sync()
    sidecar.inn8.put("clients", "C-000004", {"fullName": None})

    log = await made.sync(mode="full")

    assert (log.status, log.unchanged, log.errors, log.deleted) == ("PartialSuccess", 11, 1, 0)
    assert "C-000004" in await made.rows(Entity.CLIENTS)


async def test_what_the_source_has_no_more_is_let_out_by_a_full_run(made, sidecar, quarantine):
    sidecar.inn8.put("clients", "C-000004", {"fullName": None})
    await made.sync()
    sidecar.inn8.records("clients").delete("C-000004")
    await made.sync()
    assert "C-000004" in await kept(quarantine)
    await made.sync(mode="full")
    assert await kept(quarantine) == {}


async def test_a_replay_takes_what_can_be_taken_now_once(made, sidecar, quarantine):
    sidecar.inn8.put("clients", "C-000004", {"fullName": "x" * 256})
    await made.sync()
    item = (await kept(quarantine))["C-000004"]
    with pytest.raises(StillInvalid, match="longer than 255"):
        await quarantine.replay(item.id, parent="")
    assert "C-000004" in await kept(quarantine)

    known = sidecar.inn8.records("clients").get("C-000004")
    await made.db.write(
        lambda conn: conn.exec_driver_sql("UPDATE quarantine SET payload = replace(payload, 'xx', 'x')")
    )
    assert len(known["fullName"]) == 256
    await quarantine.replay(item.id, parent="")

    assert (await made.rows(Entity.CLIENTS))["C-000004"]["name"] == "x" * 128
    assert (await made.events())[-1][0] == "C-000004"
    with pytest.raises(NotFound):
        await quarantine.replay(item.id, parent="")


async def test_what_was_replayed_is_not_taken_for_deleted_by_the_run_that_found_it_bad(made, sidecar, quarantine):
    await made.sync()
    sidecar.inn8.put("clients", "C-NEW", {"fullName": "x" * 256})
    log = await made.sync(mode="full")
    [item] = (await kept(quarantine)).values()
    await made.db.write(
        lambda conn: conn.exec_driver_sql("UPDATE quarantine SET payload = replace(payload, 'xx', 'x')")
    )
    await quarantine.replay(item.id, parent="")
    assert (await made.rows(Entity.CLIENTS))["C-NEW"]["seen_in"] == log.id


async def test_it_is_one_tenants(made, sidecar, quarantine):
    sidecar.inn8.put("clients", "C-000004", {"fullName": None})
    await made.sync()
    [item] = (await kept(quarantine)).values()
    other = Quarantine(made.db, made.services.outbox, "other")
    assert await kept(other) == {}
    for what in (other.replay(item.id, parent=""), other.delete(item.id)):
        with pytest.raises(OfOtherTenant):
            await what
    await quarantine.delete(item.id)
    with pytest.raises(NotFound):
        await quarantine.delete(item.id)
