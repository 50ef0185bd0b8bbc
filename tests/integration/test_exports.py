"""Exports, from an admin's request to the link in the mail: each kind, and a back office that dies in the middle."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import orjson
import pytest
from brewery import BACKOFFICE, NOTIFICATION, Brewery, Notices, bearer, client_of, replicas

from chassis.ids import now
from stack.eventually import eventually

KINDS = {"orders": "csv", "payments": "jsonl", "notifications": "xlsx"}


@pytest.fixture
async def office(brew: Brewery) -> AsyncIterator[httpx.AsyncClient]:
    """The back office, as an admin of tenant `default` reaches it."""
    async with client_of(brew.stack, BACKOFFICE, bearer(brew.stack, "admin", sub="a-1")) as client:
        yield client


async def ask(office: httpx.AsyncClient, **wanted: Any) -> str:
    answer = await office.post("/api/v1/exports", json=wanted)
    assert answer.status_code == 202, answer.text
    return answer.json()["jobId"]


async def job_of(office: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    return (await office.get(f"/api/v1/jobs/{job_id}")).raise_for_status().json()


async def completed(office: httpx.AsyncClient, job_id: str, *, within: float = 60) -> dict[str, Any]:
    async def there() -> dict[str, Any]:
        job = await job_of(office, job_id)
        assert job["status"] == "Completed", job
        return job

    return await eventually(there, within=within, every=0.1)


def link_in(mail: dict[str, Any]) -> str:
    (link,) = re.findall(r"http\S+/file\?expires=\d+&signature=\w+", mail["text"])
    return link


async def follow(link: str) -> bytes:
    async with httpx.AsyncClient(trust_env=False) as anybody:
        return (await anybody.get(link)).raise_for_status().content


def rows_of(content: bytes) -> Sequence[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(content.decode("utf-8-sig")))]


async def test_an_export_of_each_kind_is_mailed_to_its_user_as_a_link(
    brew: Brewery, office: httpx.AsyncClient, notices: Notices
) -> None:
    since = now().isoformat()
    user = await notices.recipient()
    order_id = (await brew.place()).json()["id"]
    await brew.mailed(order_id)
    jobs = {
        kind: await ask(office, kind=kind, format=how, userId=user, filters={"from": since})
        for kind, how in KINDS.items()
    }
    mails = await brew.arrived(f"{user}@people.example", len(KINDS))

    links = {kind: next(link for link in map(link_in, mails) if jobs[kind] in link) for kind in KINDS}
    (order,) = rows_of(await follow(links["orders"]))
    assert (order["id"], order["total"], order["customerPhone"]) == (order_id, "4.00", "'+12025550123")
    (payment,) = map(orjson.loads, (await follow(links["payments"])).splitlines())
    assert (payment["orderId"], payment["status"], payment["amount"]) == (order_id, "succeeded", "4.00")
    assert (await follow(links["notifications"])).startswith(b"PK")
    job = await job_of(office, jobs["notifications"])
    assert (job["progress"]["percent"], job["progress"]["done"] > 0) == (100, True)

    told = await notices.history(recipientId=user)
    assert ["signature=…" in message["content"] for message in told] == [True] * len(KINDS)
    for name in [name for app in (BACKOFFICE, NOTIFICATION) for name in replicas(brew.stack, app)]:
        for log in (brew.stack.logs(name), brew.stack.logs(f"{name}.sidecar")):
            assert not [link for link in links.values() if link.rpartition("=")[2] in log], name


async def test_a_back_office_that_is_killed_in_the_middle_of_an_export_goes_on_and_makes_one_file(
    brew: Brewery, office: httpx.AsyncClient, notices: Notices
) -> None:
    since = now().isoformat()
    user = await notices.recipient()
    placed = [answer.json()["id"] for answer in await asyncio.gather(*(brew.place() for _ in range(24)))]
    job_id = await ask(office, kind="orders", format="csv", userId=user, filters={"from": since})

    async def in_the_middle() -> dict[str, Any]:
        job = await job_of(office, job_id)
        return job["progress"] if job["progress"]["done"] >= 4 else {}

    seen = await eventually(in_the_middle, every=0.01)
    brew.kill(BACKOFFICE)
    assert 0 < seen["percent"] < 100
    brew.start(BACKOFFICE)
    job = await completed(office, job_id)

    assert (job["progress"]["done"], job["progress"]["total"]) == (24, 24)
    assert [row["id"] for row in rows_of(await follow(job["resultUrl"]))] == sorted(placed)
    assert len(await brew.arrived(f"{user}@people.example")) == 1
