"""Runs: what they read, what they write, how they end, and that they can die anywhere."""

import asyncio
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.event import listen

from chassis.ids import now
from chassis.sidecar import Answer, SidecarDown
from datasource import tables
from datasource.domain import Entity, Mode, NoSource, SyncRunning
from datasource.pages import sort
from sandbox.inn8 import Limit, Manner
from sandbox.inn8_rows import stamp
from stack.eventually import eventually

FAILED = Answer(status=500, data=None)
OPEN = Answer(status=500, data={"errorCode": "ERR_DIRECT_INVOKE", "message": "circuit breaker is open"})


def counts(log):
    return log.inserted, log.updated, log.unchanged, log.deleted, log.errors


async def watermark(made, entity: Entity = Entity.CLIENTS):
    c = tables.watermarks.c
    return await made.db.read(lambda conn: conn.execute(sa.select(c.watermark).where(c.entity == entity)).scalar())


# --- what is read and written ---


async def test_everything_comes_parents_first_page_by_page(made, sidecar):
    await made.syncs.sync_all()

    logs = await made.logs()
    assert [(log["entity"], log["status"], log["inserted"]) for log in logs] == [
        ("clients", "Success", 12),
        ("securities", "Success", 4),
        ("portfolios", "Success", 10),
        ("transactions", "Success", 23),
    ]
    assert all(log["end_time"] >= log["start_time"] for log in logs)
    assert len(sidecar.asked) == 3 + 1 + 2 + 5
    assert (await watermark(made)).isoformat() == max(
        datetime.fromisoformat(sidecar.inn8.records("clients").get(f"C-{number:06}")["updatedAt"])
        for number in range(1, 13)
    ).isoformat()


async def test_while_a_page_is_looked_through_others_have_their_turns(sidecar):
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    items = [sidecar.inn8.records("clients").get("C-000001")] * 500
    beside = asyncio.create_task(other())
    await sort(Entity.CLIENTS, items)
    beside.cancel()

    assert turns >= 10


async def test_what_has_not_changed_is_seen_and_not_told(made, sidecar):
    await made.sync()
    before, told = await made.rows(Entity.CLIENTS), await made.events()
    assert [subject for subject, _ in told] == [f"C-{number:06}" for number in range(1, 13)]

    sidecar.inn8.put("clients", "C-000012", {})  # INN8 touches it, and changes nothing
    log = await made.sync(mode="full")
    after = await made.rows(Entity.CLIENTS)

    assert counts(log) == (0, 0, 12, 0, 0)
    assert await made.events() == told
    for external_id, row in after.items():
        assert row["last_sync_at"] > before[external_id]["last_sync_at"]
        assert (row["updated_at"], row["version"]) == (before[external_id]["updated_at"], 1)


async def test_last_sync_of_all_that_are_seen_moves_by_one_statement_a_page(made):
    await made.sync()
    said: list[str] = []
    engine = made.db._backend._write_engine
    listen(engine, "before_cursor_execute", lambda *call: said.append(call[2]))

    log = await made.sync(mode="full")

    assert counts(log) == (0, 0, 12, 0, 0)
    assert len([statement for statement in said if statement.startswith("UPDATE clients")]) == 3


async def test_a_real_change_is_told_with_the_next_version(made, sidecar):
    await made.sync()
    sidecar.inn8.put("clients", "C-000003", {"phoneNumber": "(202) 555-0199"})

    log = await made.sync()

    assert (log.inserted, log.updated) == (0, 1)
    subject, data = (await made.events())[-1]
    assert subject == data["customerId"] == "C-000003"
    assert (data["phone"], data["version"], data["deleted"]) == ("+12025550199", 2, False)
    row = (await made.rows(Entity.CLIENTS))["C-000003"]
    assert (row["phone"], row["version"]) == ("(202) 555-0199", 2)
    assert row["updated_at"] > row["created_at"]


async def test_only_clients_are_told_of(made):
    await made.syncs.sync_all()
    assert len(await made.events()) == 12


async def test_an_incremental_run_reads_from_its_watermark_with_a_lag_and_finds_late_commits(made, sidecar):
    await made.sync()
    newest = await watermark(made)
    late = stamp(newest - timedelta(seconds=200))
    sidecar.inn8.put("clients", "C-LATE", {"updatedAt": late})
    sidecar.asked.clear()

    log = await made.sync()

    since = newest - timedelta(seconds=300)
    assert log.since == since
    assert f"updatedSince={since:%Y-%m-%dT%H}" in sidecar.asked[0]
    assert log.inserted == 1
    assert log.unchanged == 4  # within the lag, at the boundary: read again, and no duplicates
    assert set(await made.rows(Entity.CLIENTS)) == {*(f"C-{number:06}" for number in range(1, 13)), "C-LATE"}
    assert await watermark(made) == newest


async def test_a_row_from_the_future_does_not_end_all_reading(made, sidecar):
    sidecar.inn8.put("clients", "C-000001", {"updatedAt": stamp(now() + timedelta(days=365))})
    await made.sync()
    assert await watermark(made) <= now()
    sidecar.inn8.put("clients", "C-000002", {"fullName": "Somebody Else"})
    await made.sync()
    assert (await made.rows(Entity.CLIENTS))["C-000002"]["name"] == "Somebody Else"


async def test_a_full_run_finds_what_is_there_no_more_and_what_comes_back(made, sidecar):
    await made.sync()
    kept = sidecar.inn8.records("clients").get("C-000002")
    sidecar.inn8.records("clients").delete("C-000002")
    assert counts(await made.sync())[3] == 0  # an incremental one can't see it

    assert (await made.sync(mode="full")).deleted == 1
    assert set(await made.rows(Entity.CLIENTS, deleted=True)) == {"C-000002"}
    subject, data = (await made.events())[-1]
    assert (subject, data["deleted"], data["version"]) == ("C-000002", True, 2)
    assert (await made.sync(mode="full")).deleted == 0

    sidecar.inn8.put("clients", "C-000002", kept | {"updatedAt": stamp(now())})
    assert (await made.sync()).updated == 1
    assert await made.rows(Entity.CLIENTS, deleted=True) == {}
    assert (await made.events())[-1][1]["deleted"] is False


async def test_a_source_that_shows_nothing_is_not_believed(made, sidecar):
    await made.sync()
    for number in range(1, 13):
        sidecar.inn8.records("clients").delete(f"C-{number:06}")

    log = await made.sync(mode="full")

    assert (log.status, log.records, log.deleted) == ("NoData", 0, 0)
    assert len(await made.rows(Entity.CLIENTS)) == 12


async def test_an_empty_list_is_no_data(made, sidecar):
    sidecar.inn8.behave(Manner(rows={"securities": 0}))
    assert (await made.sync(Entity.SECURITIES)).status == "NoData"


# --- how it ends, and what is waited out ---


async def test_an_item_that_is_bad_fails_alone(made, sidecar):
    sidecar.inn8.put("clients", "C-000004", {"fullName": None})
    log = await made.sync()
    assert (log.status, log.inserted, log.errors) == ("PartialSuccess", 11, 1)


async def test_a_source_that_fails_fails_the_run_and_keeps_what_was_read(made, sidecar):
    sidecar.instead = [None, FAILED]
    log = await made.sync()
    assert (log.status, log.inserted, log.error_message) == ("Failed", 5, "The source answers 500.")
    assert (await made.sync()).status == "Success"
    assert len(await made.rows(Entity.CLIENTS)) == 12


async def test_an_entity_that_fails_keeps_no_other_from_its_turn(made, sidecar):
    sidecar.instead = [FAILED]
    await made.syncs.sync_all()
    assert [log["status"] for log in await made.logs()] == ["Failed", "Success", "Success", "Success"]


async def test_429_503_an_open_breaker_and_a_sidecar_that_is_away_are_waited_out(made, sidecar):
    sidecar.instead = [
        Answer(status=429, data=None, retry_after="7"),
        Answer(status=503, data=None),
        OPEN,
        SidecarDown(),
    ]
    log = await made.sync()
    assert (log.status, log.inserted) == ("Success", 12)
    assert made.waited[0] == 7
    assert [round(wait) // 4 for wait in made.waited[1:]] == [1, 2, 4]


async def test_the_rate_limit_of_inn8_is_kept_to_by_its_dates_too(made, sidecar):
    limit = Limit.model_validate({"calls": 2, "seconds": 0.2, "retryAfter": "date"})
    sidecar.inn8.behave(sidecar.inn8.manner.model_copy(update={"limit": limit}))

    async def sleep(wait: float) -> None:
        made.waited.append(wait)
        await asyncio.sleep(0.25)

    made.syncs._sleep = sleep
    assert (await made.sync()).inserted == 12
    assert len(made.waited) >= 1
    assert max(made.waited) < 2


async def test_rows_out_of_order_are_refused_before_anything_is_written(made, sidecar):
    rows = [sidecar.inn8.records("clients").get(f"C-00000{number}") for number in (2, 1)]
    sidecar.instead = [Answer(status=200, data={"items": rows, "next": None})]
    log = await made.sync()
    assert (log.status, log.error_message) == ("Failed", "The source's rows are not in the order of their changes.")
    assert await made.rows(Entity.CLIENTS) == {}


async def test_a_cursor_that_is_known_no_more_begins_again(made, sidecar):
    sidecar.instead = [None, Answer(status=410, data=None)]
    log = await made.sync()
    assert (log.status, log.inserted, log.unchanged) == ("Success", 12, 5)


async def test_what_nobody_expected_fails_the_run_and_says_nothing_of_it(made, sidecar):
    sidecar.instead = [RuntimeError("secret")]
    log = await made.sync()
    assert (log.status, log.error_message) == ("Failed", "Internal error: the log of the service has it.")


# --- one run at a time, and what becomes of it when its process dies ---


async def test_one_run_of_an_entity_at_a_time(made):
    _, driving = await made.syncs.command("default", Entity.CLIENTS, Mode.INCREMENTAL)
    with pytest.raises(SyncRunning):
        await made.syncs.command("default", Entity.CLIENTS, Mode.FULL)
    await made.syncs.command("default", Entity.SECURITIES, Mode.FULL)
    await driving
    await made.sync()


async def test_a_tenant_without_a_source_has_none(made):
    with pytest.raises(NoSource):
        await made.syncs.command("other", Entity.CLIENTS, Mode.FULL)


async def killed(made, sidecar, *, after: int, mode: Mode = Mode.INCREMENTAL) -> str:
    """The log of a run whose process died when it asked for page number `after` + 1, all before being written."""
    sidecar.instead = [None] * after
    reached, log_id = asyncio.Event(), ""
    listed = sidecar._listed

    async def hang(method, headers):
        if len(sidecar.asked) - begun > after:
            reached.set()
            await asyncio.Event().wait()
        return await listed(method, headers)

    begun = len(sidecar.asked)
    sidecar._listed = hang
    log_id, driving = await made.syncs.command("default", Entity.CLIENTS, mode)
    await reached.wait()
    await eventually(lambda: written(made, log_id, 5 * after))
    made.runs.let_go = nothing  # it is not told that it dies
    driving.cancel()
    await asyncio.wait([driving])
    sidecar._listed = listed
    return log_id


async def written(made, log_id, items):
    return (await made.runs.get(log_id)).records == items


async def nothing(*_: object) -> None:
    """As a process that is dead."""


async def test_a_killed_run_goes_on_where_it_was(parts, sidecar):
    async with parts() as first:
        log_id = await killed(first, sidecar, after=2)
        [log] = await first.logs()
        assert (log["status"], log["inserted"]) == ("InProgress", 10)
    async with parts() as second:
        await second.syncs.resume_abandoned()  # its lease is not over yet
        assert (await second.runs.get(log_id)).status == "InProgress"
        await second.runs.release_all()
        sidecar.asked.clear()

        await second.syncs.sync_all()

        log = await second.runs.get(log_id)
        assert (log.status, counts(log)) == ("Success", (12, 0, 0, 0, 0))
        assert len([asked for asked in sidecar.asked if asked.startswith("clients")]) == 1


async def test_what_nobody_drives_any_more_is_found_once_its_lease_is_over(parts, sidecar):
    async with parts(lease_seconds=0.3) as first:
        log_id = await killed(first, sidecar, after=1)
    async with parts() as second:
        deadline = asyncio.get_running_loop().time() + 5
        while (await second.runs.get(log_id)).status == "InProgress":
            assert asyncio.get_running_loop().time() < deadline
            await second.syncs.resume_abandoned()
            await asyncio.sleep(0.05)
        assert (await second.runs.get(log_id)).inserted == 12


async def test_a_run_that_is_only_slow_is_its_own(parts, sidecar):
    answers = asyncio.Event()
    listed = sidecar._listed

    async def slow(method, headers):
        await answers.wait()
        return await listed(method, headers)

    async with parts(lease_seconds=1.5) as made:
        sidecar._listed = slow
        _, driving = await made.syncs.command("default", Entity.CLIENTS, Mode.FULL)
        lease_is_over = asyncio.get_running_loop().time() + 2
        while asyncio.get_running_loop().time() < lease_is_over:
            with pytest.raises(SyncRunning):
                await made.syncs.command("default", Entity.CLIENTS, Mode.FULL)
            await asyncio.sleep(0.1)
        answers.set()
        await driving
        assert [log["status"] for log in await made.logs()] == ["Success"]


async def test_who_has_lost_a_run_writes_nothing_more(made):
    run = await made.runs.begin("default", "inn8", Entity.CLIENTS, Mode.INCREMENTAL)
    await made.runs.release_all()
    other = await made.runs.begin("default", "inn8", Entity.CLIENTS, Mode.INCREMENTAL, resume=True)

    await made.syncs._drive(run)

    assert other.log.id == run.log.id
    assert await made.rows(Entity.CLIENTS) == {}
    assert (await made.runs.get(run.log.id)).status == "InProgress"
    await made.syncs._drive(other)
    assert len(await made.rows(Entity.CLIENTS)) == 12


async def test_a_command_ends_what_nobody_drives_any_more(parts, sidecar):
    async with parts() as first:
        log_id = await killed(first, sidecar, after=1)
        await first.runs.release_all()
        log = await first.sync(mode="full")
        assert (log.status, log.records) == ("Success", 12)
        given_up = await first.runs.get(log_id)
        assert (given_up.status, given_up.error_message) == ("Failed", "Given up for a new run.")


async def test_who_stops_in_good_order_lets_go_at_once(parts, sidecar):
    hanging = asyncio.Event()

    async def hang(_method, _headers):
        hanging.set()
        await asyncio.Event().wait()

    sidecar._listed, listed = hang, sidecar._listed
    async with parts() as first:
        await first.syncs.command("default", Entity.CLIENTS, Mode.INCREMENTAL)
        await hanging.wait()
    sidecar._listed = listed
    async with parts() as second:
        await second.syncs.resume_abandoned()
        assert [log["status"] for log in await second.logs()] == ["Success"]


async def test_a_full_run_that_was_killed_before_it_could_delete_does_so_later(parts, sidecar):
    async with parts() as first:
        await first.sync()
        sidecar.inn8.records("clients").delete("C-000001")
        log_id = await killed(first, sidecar, after=2, mode=Mode.FULL)
    async with parts() as second:
        await second.runs.release_all()
        await second.syncs.resume_abandoned()
        assert (await second.runs.get(log_id)).deleted == 1
        assert set(await second.rows(Entity.CLIENTS, deleted=True)) == {"C-000001"}
