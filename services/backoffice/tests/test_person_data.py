"""One person's files and exports: told to whoever may ask, and gone, row and content, once the person is erased."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from stack.eventually import eventually
from stack.issuer import Issuer

FILES, PERSON, EVENTS = "/api/v1/files", "/person-data", "/events/customers"
PDF = b"%PDF-1.7\n%%EOF"
PERSON_ID = "c-1"


def erased(person: str, at: datetime) -> dict[str, Any]:
    data = {"version": 1, "customerId": person, "erasedAt": at.isoformat()}
    head = {"specversion": "1.0", "id": "e-1", "source": "notification-service", "type": "customer.erased.v1"}
    return head | {"tenantid": "default", "data": data}


async def test_a_persons_files_are_told_and_erased_and_nobody_elses(
    client: httpx.AsyncClient,
    issuer: Issuer,
    database: Path,
    rows: Callable[[str], list[Any]],
    by_sidecar: dict[str, str],
):
    async def leave(sub: str) -> None:
        form = {"file": (f"{sub}.pdf", PDF)}
        assert (await client.post(FILES, files=form, headers=issuer.bearer("user", sub=sub))).status_code == 201

    async def hear(event: dict[str, Any]) -> str:
        return (await client.post(EVENTS, json=event, headers=by_sidecar)).json()["status"]

    async def held(person: str) -> list[str]:
        headers = by_sidecar | {"X-Tenant-Id": "default"}
        answer = await client.post(PERSON, json={"personId": person}, headers=headers)
        return [file["originalFileName"] for file in answer.json()["held"]["files"]]

    for sub in ("c-1", "c-10"):
        await leave(sub)
    assert (await held("c-1"), await held("c-10")) == (["c-1.pdf"], ["c-10.pdf"])
    assert (await client.post(PERSON, json={"personId": "c-1"})).status_code == 401

    assert await hear(erased("c-1", datetime.now(UTC) - timedelta(minutes=1))) == "SUCCESS"
    assert await held("c-1") == ["c-1.pdf"], "left after that time"
    for _ in range(2):
        assert await hear(erased("c-1", datetime.now(UTC))) == "SUCCESS"

    assert (await held("c-1"), await held("c-10")) == ([], ["c-10.pdf"])
    await eventually(lambda: [row.uploaded_by for row in rows("SELECT * FROM files")] == ["c-10"])
    await eventually(lambda: len(list((database.parent / "storage").rglob("*.pdf"))) == 1)
    assert await hear(erased("c-1", datetime.now(UTC)) | {"data": {}}) == "DROP"


async def hear_of_erasure(client: httpx.AsyncClient, by_sidecar: dict[str, str]) -> None:
    event = erased(PERSON_ID, datetime.now(UTC))
    assert (await client.post(EVENTS, json=event, headers=by_sidecar)).json()["status"] == "SUCCESS"


async def test_a_persons_exports_are_told_without_their_links(exports, shop, by_sidecar):
    shop.fill(1)
    done = await exports.run(await exports.ask(userId=PERSON_ID, format="jsonl"))
    queued = await exports.job(await exports.ask(userId=PERSON_ID))
    await exports.ask(userId="c-10")
    headers = by_sidecar | {"X-Tenant-Id": "default"}
    answer = await exports.client.post(PERSON, json={"personId": PERSON_ID}, headers=headers)

    times = ("jobId", "status", "createdAt", "startedAt", "completedAt")
    assert answer.json()["held"]["exports"] == [
        {"kind": "orders", "format": "jsonl"} | {name: done[name] for name in times},
        {"kind": "orders", "format": "csv"} | {name: queued[name] for name in times},
    ]


async def test_a_persons_exports_lose_their_files_and_their_name_and_what_runs_is_cancelled(
    exports, shop, rows, by_sidecar
):
    shop.fill(5)
    done, running, queued, others = [await exports.ask(userId=user) for user in (*[PERSON_ID] * 3, "c-10")]
    link = (await exports.run(done))["resultUrl"].removeprefix("http://localhost:8005")
    await exports.run(running, steps=1)
    kept = await exports.run(others)
    for _ in range(2):
        await hear_of_erasure(exports.client, by_sidecar)
    await exports.made.tasks.drain(within=1)
    for job_id in (running, queued):
        await exports.run(job_id)

    jobs = [await exports.job(job_id) for job_id in (done, running, queued)]
    assert [(job["userId"], job["status"], job["resultUrl"]) for job in jobs] == [
        ("erased", "Completed", None),
        ("erased", "Cancelled", None),
        ("erased", "Cancelled", None),
    ]
    assert [(row.user_id, row.file is None) for row in rows("SELECT * FROM jobs ORDER BY user_id")] == [
        ("c-10", False),
        *[("erased", True)] * 3,
    ]
    assert [row.aggregate_id for row in rows("SELECT * FROM outbox")] == [others]
    assert (await exports.client.get(link)).status_code == 410
    assert [name.split("/")[1] for name in await exports.stored()] == [others]
    assert await exports.file(kept)


async def test_killed_after_an_erasure_nobody_finds_the_file_and_the_sweep_deletes_it(
    exports, shop, by_sidecar, monkeypatch
):
    shop.fill(1)
    job_id = await exports.ask(userId=PERSON_ID)
    link = (await exports.run(job_id))["resultUrl"].removeprefix("http://localhost:8005")
    with monkeypatch.context() as killed:
        killed.setattr(exports.made.tasks, "spawn", lambda work, **_: work.close())
        await hear_of_erasure(exports.client, by_sidecar)
    assert len(await exports.stored()) == 1
    assert ((await exports.client.get(link)).status_code, (await exports.job(job_id))["resultUrl"]) == (410, None)

    await exports.made.expiry.sweep()
    assert await exports.stored() == []


async def test_erased_while_its_file_is_written_and_then_killed_it_leaves_nothing(
    exports, shop, by_sidecar, monkeypatch
):
    shop.fill(1)
    put = exports.made.storage.put

    async def put_and_die(name, content):
        await put(name, content)
        if name.endswith(".csv"):
            await hear_of_erasure(exports.client, by_sidecar)
            monkeypatch.undo()
            raise OSError("killed")

    monkeypatch.setattr(exports.made.storage, "put", put_and_die)
    job = await exports.run(await exports.ask(userId=PERSON_ID))

    assert (job["status"], job["userId"], await exports.stored()) == ("Cancelled", "erased", [])
