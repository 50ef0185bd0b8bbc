"""Files over real HTTP, where bodies come piece by piece, break off, and processes die in the middle of one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import httpx
import psutil
import pytest
from brewery import BACKOFFICE, Brewery, bearer, client_of, replicas
from uploads import FILES, FORM, form, upload_at_once

from stack.eventually import eventually
from stack.sidecars import Stack

pytestmark = pytest.mark.integration

LARGE = 6 * 2**20  # bytes: some of it is in the storage before the rest has come


@pytest.fixture
async def office(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(stack, BACKOFFICE, bearer(stack, "user", sub="u-files")) as client:
        yield client


async def left(client: httpx.AsyncClient, size: int = LARGE) -> str:
    answer = await client.post(FILES, content=form(size), headers=FORM)
    assert answer.status_code == 201, answer.text
    return answer.json()["url"]


async def all_but_the_end(begun: Callable[[], object]) -> AsyncIterator[bytes]:
    """Of a large form; over when `begun` says that some of it lies in the storage."""
    pieces = [piece async for piece in form(LARGE)]
    for piece in pieces[:-2]:
        yield piece
    await eventually(begun)


def lying(brew: Brewery, ending: str = ".pdf") -> set[str]:
    """Names of uploads in the storage, of what is whole; or, with `#1`, of what is not. An export whose back office was
    killed may have left something beside them."""
    return {file.name for file in (brew.stack.run_dir / "var/data/storage/files").rglob(f"*{ending}")}


def unsettled(brew: Brewery) -> int:
    return len(brew.rows(BACKOFFICE, "SELECT id FROM files WHERE status <> 'stored'"))


async def test_what_one_replica_has_stored_every_other_has_in_whole_and_in_part_until_it_is_deleted(
    brew: Brewery, office: httpx.AsyncClient
) -> None:
    url = await left(office)
    for replica in replicas(brew.stack, BACKOFFICE):
        async with client_of(brew.stack, replica, dict(office.headers)) as client:
            whole = await client.get(url)
            part = await client.get(url, headers={"Range": f"bytes=-{LARGE // 2}"})
            head = await client.head(url)
            assert (whole.status_code, len(whole.content)) == (200, LARGE)
            assert (part.status_code, part.content == whole.content[LARGE // 2 :]) == (206, True)
            assert (head.status_code, head.headers["content-length"]) == (200, str(LARGE))
            assert url in {file["url"] for file in (await client.get(FILES)).json()["items"]}

    async with client_of(brew.stack, replicas(brew.stack, BACKOFFICE)[-1], dict(office.headers)) as client:
        assert (await client.delete(url)).status_code == 204
    assert (await office.get(url)).status_code == 404
    assert url.rpartition("/")[2] not in lying(brew)


async def test_an_upload_that_breaks_off_or_is_too_long_leaves_nothing(
    brew: Brewery, office: httpx.AsyncClient
) -> None:
    before = lying(brew)

    async def breaking_off() -> AsyncIterator[bytes]:
        async for piece in all_but_the_end(lambda: lying(brew, "#1")):
            yield piece
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await office.post(FILES, content=breaking_off(), headers=FORM)
    too_long = await office.post(FILES, content=form(10 * 2**20 + 1), headers=FORM)

    assert (too_long.status_code, too_long.json()["errorType"]) == (413, "body-too-large")
    await eventually(lambda: not unsettled(brew) and not lying(brew, "#1"))
    assert lying(brew) == before


async def test_an_upload_whose_service_is_killed_leaves_nothing_behind_the_sweep(
    brew: Brewery, office: httpx.AsyncClient
) -> None:
    before = lying(brew)

    async def kept_waiting() -> AsyncIterator[bytes]:
        async for piece in all_but_the_end(lambda: lying(brew, "#1")):
            yield piece
        await asyncio.Event().wait()

    uploading = asyncio.create_task(office.post(FILES, content=kept_waiting(), headers=FORM))
    await eventually(lambda: lying(brew, "#1"))
    brew.kill(BACKOFFICE)
    uploading.cancel()
    with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
        await uploading
    await asyncio.to_thread(brew.start, BACKOFFICE)
    assert (unsettled(brew), len(lying(brew, "#1"))) == (1, 1)

    async def swept() -> bool:
        headers = {"dapr-api-token": brew.stack.app_token}
        (await office.post("/job/FileSweep", headers=headers)).raise_for_status()
        return not unsettled(brew) and not lying(brew, "#1")

    await eventually(swept, every=0.5)
    assert lying(brew) == before


@pytest.mark.only_on("sqlite")
async def test_eight_uploads_at_once_are_never_whole_in_memory(brew: Brewery, office: httpx.AsyncClient) -> None:
    process = psutil.Process(brew.stack.pids()[BACKOFFICE])

    figures = await upload_at_once(office, process, uploads=8, size=10 * 2**20)

    assert figures["peak_mb"] - figures["before_mb"] < 40, figures
