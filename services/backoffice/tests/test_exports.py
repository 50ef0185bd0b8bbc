"""An export from its request to its file: what it makes, wherever it is killed, cancelled or let down."""

import asyncio
from collections import Counter
from datetime import timedelta
from unittest import mock

import orjson
import sqlalchemy as sa

from backoffice.exports.expiry import Expiry
from backoffice.exports.progress import Progress
from backoffice.exports.workflow import PAGES_OF_A_RUN
from backoffice.tables import jobs
from chassis.ids import now
from chassis.problems import Unavailable
from chassis.sidecar import SidecarDown


def told(rows):
    """The events of the outbox, by type."""
    return {row.type: orjson.loads(row.data) for row in rows("SELECT type, data FROM outbox")}


def lines(text):
    return text.removeprefix("\ufeff").splitlines()


async def test_an_export_becomes_one_file_with_all_rows_and_tells_of_it(exports, shop, rows):
    shop.fill(5)
    job = await exports.run(await exports.ask(userId="u@1"))

    assert (job["status"], job["jobType"], job["userId"]) == ("Completed", "DataExport", "u@1")
    assert job["progress"] == {"done": 5, "total": 5, "percent": 100}
    assert job["createdAt"] <= job["startedAt"] <= job["completedAt"]
    assert lines(await exports.file(job)) == ["id,name,total", *(",".join(row) for row in shop.rows)]
    event = told(rows)["export.completed.v1"]
    name = f"export_u_1_{now():%Y%m%d}_{job['jobId']}.csv"
    assert (event["userId"], event["rows"], event["fileName"]) == ("u@1", 5, name)
    assert await exports.file(event) == await exports.file(job)
    assert await exports.stored() == [f"exports/{job['jobId']}/{name}"]  # no part is left


async def test_an_export_of_nothing_is_a_file_with_its_header(exports):
    job = await exports.run(await exports.ask())

    assert (job["progress"], lines(await exports.file(job))) == (
        {"done": 0, "total": 0, "percent": 100},
        ["id,name,total"],
    )


async def test_its_progress_is_seen_while_it_runs(exports, shop):
    shop.fill(5)
    job_id = await exports.ask()
    assert (await exports.job(job_id))["status"] == "Queued"
    job = await exports.run(job_id, steps=1)

    assert (job["status"], job["progress"]) == ("Processing", {"done": 2, "total": 5, "percent": 40})
    assert job["resultUrl"] is job["completedAt"] is None


async def test_a_long_one_begins_its_history_anew_and_goes_on(exports, shop):
    shop.fill(2 * PAGES_OF_A_RUN + 3)
    job = await exports.run(await exports.ask())

    assert len(lines(await exports.file(job))) == 2 * PAGES_OF_A_RUN + 4


async def test_only_what_there_was_when_it_was_asked_for_is_read(exports, shop):
    job_id = await exports.ask(filters={"status": "confirmed", "from": "2026-01-31T10:00:00+01:00"})
    job = await exports.run(job_id)

    filters = {"status": "confirmed", "from": "2026-01-31T09:00:00Z", "to": job["createdAt"]}
    assert shop.asked == [{"kind": "orders", "filters": filters, "cursor": None, "limit": 2}]


async def test_killed_anywhere_it_goes_on_where_it_was_and_makes_one_file(exports, shop, rows):
    shop.fill(5)
    job_id = await exports.ask()
    for steps in (1, 2, 1, 9):
        job = await exports.run(job_id, steps=steps)

    assert lines(await exports.file(job))[1:] == [",".join(row) for row in shop.rows]
    assert [row.type for row in rows("SELECT type FROM outbox")] == ["export.completed.v1"]
    assert max(Counter(wanted["cursor"] for wanted in shop.asked).values()) == 1  # no page was read twice


async def test_of_two_that_read_the_same_page_at_once_one_counts(exports, shop, monkeypatch):
    shop.fill(3)
    job_id = await exports.ask()
    page = {"reference": exports.reference(job_id), "step": "page"}
    both_have_read, put = asyncio.Barrier(2), exports.made.storage.put

    async def put_after_both(*what):
        await both_have_read.wait()
        await put(*what)

    with monkeypatch.context() as patched:
        patched.setattr(exports.made.storage, "put", put_after_both)
        await asyncio.gather(exports.made.exports.perform(page), exports.made.exports.perform(page))
    assert [wanted["cursor"] for wanted in shop.asked] == [None, None]

    job = await exports.run(job_id)
    assert (job["progress"]["done"], len(lines(await exports.file(job)))) == (3, 4)


async def test_a_page_that_fails_is_tried_three_times(exports, shop):
    shop.fill(3)
    shop.broken = 2

    job = await exports.run(await exports.ask())
    assert (job["status"], len(shop.asked)) == ("Completed", 2 + 2)


async def test_failed_three_times_the_job_says_so_in_plain_words_and_keeps_nothing(exports, shop, rows):
    shop.fill(5)
    job_id = await exports.ask()
    await exports.run(job_id, steps=1)
    shop.broken = 3
    job = await exports.run(job_id)

    assert (job["status"], job["resultUrl"]) == ("Failed", None)
    assert job["errorMessage"] == "The rows could not be read. Please ask for the export again."
    (event,) = (orjson.loads(row.data) for row in rows("SELECT data FROM outbox WHERE type = 'export.failed.v1'"))
    assert (event["jobId"], event["userId"], event["errorMessage"]) == (job_id, "a-1", job["errorMessage"])
    assert (len(shop.asked), await exports.stored(), rows("SELECT * FROM export_parts")) == (1 + 3, [], [])


async def test_a_file_that_cannot_be_written_fails_it_too(exports, settings):
    settings.export_folder.write_text("no folder")
    job = await exports.run(await exports.ask())

    words = "The file could not be written. Please ask for the export again."
    assert (job["status"], job["errorMessage"], await exports.stored()) == ("Failed", words, [])


async def test_a_file_that_was_stored_and_not_written_down_is_not_left(exports, monkeypatch):
    async def down(*_what):
        raise Unavailable("database")

    monkeypatch.setattr(Progress, "complete", down)
    job = await exports.run(await exports.ask())

    assert (job["status"], await exports.stored()) == ("Failed", [])


async def test_cancelled_while_it_runs_it_stops_at_its_next_step_and_leaves_nothing(exports, shop, rows):
    shop.fill(5)
    job_id = await exports.ask()
    await exports.run(job_id, steps=2)
    cancelled = await exports.client.delete(f"/api/v1/jobs/{job_id}")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "Cancelled")
    job = await exports.run(job_id)

    assert (job["status"], job["resultUrl"], len(shop.asked)) == ("Cancelled", None, 2)
    assert (await exports.stored(), rows("SELECT * FROM export_parts"), rows("SELECT * FROM outbox")) == ([], [], [])


async def test_cancelled_while_a_page_is_read_or_the_file_is_written_it_leaves_nothing(
    exports, shop, rows, monkeypatch
):
    shop.fill(1)
    put = exports.made.storage.put
    for during in (".jsonl", ".csv"):
        job_id = await exports.ask()

        async def cancelled_first(name, content, during=during, job_id=job_id):
            if name.endswith(during):
                await exports.client.delete(f"/api/v1/jobs/{job_id}")
            await put(name, content)

        monkeypatch.setattr(exports.made.storage, "put", cancelled_first)
        job = await exports.run(job_id)
        assert (job["status"], await exports.stored(), rows("SELECT * FROM outbox")) == ("Cancelled", [], []), during


async def test_what_nobody_works_on_is_begun_by_the_sweep(exports, shop, sidecar):
    shop.fill(1)
    ended, queued, begun = [await exports.ask() for _ in range(3)]
    await exports.run(ended)
    await exports.run(begun, steps=1)
    sidecar.workflows.clear()  # as if the process had died between its answer and the start
    await exports.made.exports.sweep()

    assert {given["id"] for _, given in sidecar.workflows.values()} == {queued, begun}


async def test_a_request_is_taken_while_the_workflow_engine_is_away(exports, sidecar, monkeypatch):
    async def away(*_):
        raise SidecarDown("workflow-engine")

    with monkeypatch.context() as patched:
        patched.setattr(sidecar, "start_workflow", away)
        job_id = await exports.ask()
    await exports.made.exports.sweep()

    assert (await exports.run(job_id))["status"] == "Completed"


async def test_a_file_goes_after_its_days_and_its_job_stays(exports, shop, settings):
    shop.fill(1)
    job_id = await exports.ask()
    job = await exports.run(job_id)
    expiry = Expiry(db=exports.made.db, storage=exports.made.storage, keep=timedelta(days=settings.export_days))
    await expiry.sweep()
    assert (await exports.job(job_id))["resultUrl"]  # not yet
    await exports.made.db.write(
        lambda conn: conn.execute(sa.update(jobs).values(completed_at=now() - timedelta(days=7, seconds=1)))
    )
    await expiry.sweep()

    assert (await exports.job(job_id)) == job | {"resultUrl": None, "completedAt": mock.ANY}
    gone = await exports.client.get(job["resultUrl"].removeprefix("http://localhost:8005"))
    assert (gone.status_code, gone.json()["errorType"], await exports.stored()) == (410, "file-gone", [])
