"""The back office over a bucket of a real S3 server, as two replicas of it share one. `make test-more`: the server is
built for it."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from brewery import BACKOFFICE, bearer, client_of
from conftest import ROOT, specs
from test_files import all_but_the_end
from uploads import FILES, FORM, form

from stack import local
from stack.eventually import eventually
from stack.postgres import Postgres
from stack.sidecars import Stack

pytestmark = [pytest.mark.integration, pytest.mark.more]

LARGE = 6 * 2**20  # bytes: S3 gets it in two parts
KEYS = {"storage-access-key-id": "key-of-the-tests", "storage-secret-access-key": "secret-of-the-tests"}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The server's address, and the folder in which it keeps its bucket `brewline`."""
    root = tmp_path_factory.mktemp("s3")
    (root / "brewline").mkdir()
    address = f"{local.HOST}:{local.free_port()}"
    keys = {"ROOT_ACCESS_KEY": KEYS["storage-access-key-id"], "ROOT_SECRET_KEY": KEYS["storage-secret-access-key"]}
    command = [ROOT / "tools/bin/versitygw", "--port", address, "--keep-alive", "--quiet", "posix", root]
    server = subprocess.Popen(command, env={**os.environ, **keys}, stdout=subprocess.DEVNULL)
    yield f"http://{address}", root / "brewline"
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def stack(
    bucket: tuple[str, Path], postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("over-s3")
    known = {spec.app_id: spec for spec in specs(folder, lambda name: postgres_server.create(f"s3_{name}"))}
    storage = {"BACKOFFICE_STORAGE": "s3://brewline/office", "AWS_ENDPOINT_URL": bucket[0], "AWS_REGION": "us-east-1"}
    office = replace(
        known[BACKOFFICE], env={**known[BACKOFFICE].env, **storage}, secrets={**known[BACKOFFICE].secrets, **KEYS}
    )
    apps = [known["sandbox"], office, replace(office, name=f"{BACKOFFICE}-2")]
    with Stack(apps=apps, components=ROOT / "components", run_dir=folder, tools_bin=ROOT / "tools" / "bin") as running:
        yield running


@pytest.fixture(autouse=True)
def fair_weather() -> None:
    """What stands is started for this file alone."""


@pytest.fixture
async def office(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(stack, BACKOFFICE, bearer(stack, "user")) as client:
        yield client


def lying(bucket: tuple[str, Path]) -> list[Path]:
    """Whatever the server keeps, parts of what is not whole among it."""
    return [file for file in bucket[1].rglob("*") if file.is_file()]


async def test_what_one_replica_has_put_into_the_bucket_the_other_reads_lists_and_deletes(
    stack: Stack, bucket: tuple[str, Path], office: httpx.AsyncClient
) -> None:
    stored = (await office.post(FILES, content=form(LARGE), headers=FORM)).raise_for_status().json()
    small = (await office.post(FILES, content=form(100), headers=FORM)).raise_for_status().json()

    assert (bucket[1] / "office/files" / stored["fileName"]).stat().st_size == LARGE
    async with client_of(stack, f"{BACKOFFICE}-2", dict(office.headers)) as other:
        whole = await other.get(stored["url"])
        part = await other.get(stored["url"], headers={"Range": f"bytes=100-{LARGE - 101}"})
        listed = (await other.get(FILES)).json()["items"]
        assert (whole.status_code, len(whole.content)) == (200, LARGE)
        assert (part.status_code, part.content == whole.content[100:-100]) == (206, True)
        assert [file["fileName"] for file in listed] == [small["fileName"], stored["fileName"]]
        for file in (stored, small):
            assert (await other.delete(file["url"])).status_code == 204
    assert (await office.get(stored["url"])).status_code == 404
    assert lying(bucket) == []


async def test_an_upload_that_breaks_off_leaves_no_part_in_the_bucket(
    bucket: tuple[str, Path], office: httpx.AsyncClient
) -> None:
    async def breaking_off() -> AsyncIterator[bytes]:
        async for piece in all_but_the_end(lambda: lying(bucket)):
            yield piece
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await office.post(FILES, content=breaking_off(), headers=FORM)

    await eventually(lambda: not lying(bucket))
    assert (await office.get(FILES)).json()["items"] == []


async def test_while_the_bucket_does_not_answer_nothing_is_taken(
    stack: Stack, bucket: tuple[str, Path], office: httpx.AsyncClient
) -> None:
    bucket[1].rename(bucket[1].with_name("elsewhere"))
    refused = await office.post(FILES, content=form(100), headers=FORM)
    bucket[1].with_name("elsewhere").rename(bucket[1])

    assert (refused.status_code, refused.json()["errorType"]) == (503, "storage-unavailable")
    assert not any(key in stack.logs(name) for key in KEYS.values() for name in (BACKOFFICE, f"{BACKOFFICE}-2"))
