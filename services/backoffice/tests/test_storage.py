"""A folder of this machine. A bucket: tests/integration/test_storage.py."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from backoffice.storage import NotStored, Storage
from chassis.problems import Unavailable
from stack.eventually import eventually

PART = 5 * 2**20


@pytest.fixture
async def storage(tmp_path: Path) -> Storage:
    made = Storage(f"file:{tmp_path}/storage", {})
    await made.start()
    return made


def on_disk(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


async def some(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(storage: Storage, name: str, *places: int) -> bytes:
    return b"".join([chunk async for chunk in storage.read(name, *places)])


async def names(storage: Storage, prefix: str) -> set[tuple[str, int]]:
    return {(found.name, found.size) async for found in storage.list(prefix)}


async def test_what_was_put_is_read_whole_or_in_part_listed_and_deleted(storage):
    content = os.urandom(PART + 17)
    await storage.put("a/1", some(content[:1000], content[1000:]))
    await storage.put("a/1x/2", some(b"2"))
    await storage.put("ab/3", some())

    assert await read(storage, "a/1") == content
    assert await read(storage, "a/1", 2**20 - 1, 2**21 + 1) == content[2**20 - 1 : 2**21 + 1]
    assert await names(storage, "a") == {("a/1", len(content)), ("a/1x/2", 1)}
    assert await names(storage, "ab") == {("ab/3", 0)}

    await storage.delete("a/1")
    await storage.delete("a/1")
    assert await names(storage, "a") == {("a/1x/2", 1)}
    for asked in (storage.find("a/1"), read(storage, "a/1"), read(storage, "a/1", 0, 5)):
        with pytest.raises(NotStored):
            await asked


async def test_a_name_appears_whole_or_not_at_all(storage, tmp_path):
    begun = asyncio.Event()

    async def breaking_off() -> AsyncIterator[bytes]:
        yield os.urandom(PART + 1)
        begun.set()
        await asyncio.sleep(60)

    async def failing() -> AsyncIterator[bytes]:
        yield os.urandom(PART + 1)
        raise RuntimeError("broken off")

    with pytest.raises(RuntimeError):
        await storage.put("a/1", failing())
    putting = asyncio.create_task(storage.put("a/2", breaking_off()))
    await begun.wait()
    assert await names(storage, "") == set()
    putting.cancel()

    await eventually(lambda: not on_disk(tmp_path))


async def test_what_a_killed_process_left_is_thrown_out_once_it_is_old(storage, tmp_path):
    left_over = """
import asyncio, os, sys
from backoffice.storage import Storage
async def content():
    while True:
        yield os.urandom(2**20)
async def main():
    storage = Storage("file:storage", {})
    await storage.start()
    await storage.put("a/1", content())
asyncio.run(main())
"""
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", left_over, cwd=tmp_path)
    await eventually(lambda: any(file.endswith("#1") for file in on_disk(tmp_path)))
    killed.kill()
    await killed.wait()
    await storage.put("a/#1.pdf", some(b"not one of them"))

    await storage.discard_unfinished(older_than=timedelta(hours=1))
    assert len(on_disk(tmp_path)) == 2
    await storage.discard_unfinished(older_than=timedelta(0))
    assert await names(storage, "") == {("a/#1.pdf", 15)}
    assert on_disk(tmp_path) == ["storage/a/#1.pdf"]


async def test_a_folder_that_can_not_be_written_is_an_unavailable_storage(storage, tmp_path):
    (tmp_path / "storage" / "a").write_text("in the way")

    with pytest.raises(Unavailable):
        await storage.put("a/1", some(b"1"))


def test_another_kind_of_storage_is_refused():
    with pytest.raises(ValueError, match="file:<folder> or s3://"):
        Storage("ftp://example.com", {})
