"""Where files lie: in a folder of this machine, or in a bucket that speaks S3. Under a name is a whole file or none."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from chassis.problems import Unavailable

if TYPE_CHECKING:  # they are in its stubs only
    from obstore import ObjectMeta
    from obstore.store import S3Config

log = structlog.get_logger()

# What of one file lies in memory while it is put: one part, of bytes. S3 takes none that is smaller.
_PART, _PARTS_AT_ONCE = 5 * 2**20, 1
_BLOCK = 2**20  # bytes that are read by one request
_LISTED = 1000  # names by one request

# By this name obstore writes a file of this machine until it is whole; it lists none of them.
_UNFINISHED = re.compile(r"#\d+$")


class NotStored(Exception):
    """There is nothing under this name."""


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """`size` in bytes; `modified` is when it was whole."""

    name: str
    size: int
    modified: datetime


class Storage:
    """`url` is `file:` and a folder, or `s3://bucket/prefix`. Of a bucket the standard variables say the rest
    (`AWS_REGION`, `AWS_ENDPOINT_URL`, …); `secrets`, complete by `start`, may have its `storage-access-key-id` and
    `storage-secret-access-key`. Names are relative paths. Whatever is asked raises Unavailable without an answer.
    """

    def __init__(self, url: str, secrets: Mapping[str, str]) -> None:
        self._url = urlsplit(url)
        if self._url.scheme not in {"file", "s3"}:
            raise ValueError("a storage is file:<folder> or s3://<bucket>/<prefix>")
        self._folder = Path(self._url.path).absolute() if self._url.scheme == "file" else None
        self._secrets = secrets
        self._store: LocalStore | S3Store

    async def start(self) -> None:
        if self._folder is None:
            self._store = _bucket(self._url.netloc, self._url.path.strip("/"), self._secrets)
        else:
            self._store = LocalStore(self._folder, mkdir=True)

    async def stop(self) -> None:
        """Nothing is kept open."""

    async def put(self, name: str, content: AsyncIterator[bytes]) -> None:
        """When this returns the whole of `content` is under this name, also after a power failure; when it raises, what
        `content` raised too, nothing of it is. Of a process that is killed `discard_unfinished` finds the rest."""
        with _refusals():
            part = _PART if self._folder is None else _BLOCK
            await obstore.put_async(
                self._store, name, content, use_multipart=True, chunk_size=part, max_concurrency=_PARTS_AT_ONCE
            )
            if self._folder is not None:
                await asyncio.to_thread(_flush, self._folder / name)

    async def find(self, name: str) -> StoredObject:
        """Raises NotStored."""
        with _refusals(may_miss=True):
            return _stored(await obstore.head_async(self._store, name))

    async def read(self, name: str, begin: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Its bytes from `begin` on, up to `end`, which is not among them. Each block is a request of its own: however
        slow a reader is, it keeps nothing open. Raises NotStored."""
        end = (await self.find(name)).size if end is None else end
        for at in range(begin, end, _BLOCK):
            with _refusals(may_miss=True):
                yield bytes(await obstore.get_range_async(self._store, name, start=at, end=min(at + _BLOCK, end)))

    async def delete(self, name: str) -> None:
        """Also what isn't there."""
        with suppress(NotStored), _refusals(may_miss=True):
            await obstore.delete_async(self._store, name)

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """All below this path: below `exports/1` is `exports/1/2.csv`, and neither `exports/1` nor `exports/10`."""
        with _refusals():
            async for some in obstore.list(self._store, prefix, chunk_size=_LISTED):
                for known in some:
                    yield _stored(known)

    async def discard_unfinished(self, *, older_than: timedelta) -> None:
        """What processes left that were killed in a `put`. A bucket has a rule for it (docs/operations.md)."""
        if self._folder is not None:
            await asyncio.to_thread(_discard, self._folder, (datetime.now(UTC) - older_than).timestamp())


@contextmanager
def _refusals(*, may_miss: bool = False) -> Generator[None]:
    """Where no name is looked for, what isn't found is the bucket."""
    try:
        yield
    except (FileNotFoundError, BaseError) as error:
        if may_miss and isinstance(error, FileNotFoundError):
            raise NotStored from None
        # Its text may name more than a log should have.
        log.warning("storage.unavailable", error=type(error).__name__)
        raise Unavailable("storage") from None


def _bucket(name: str, prefix: str, secrets: Mapping[str, str]) -> S3Store:
    known: S3Config = {}
    if key_id := secrets.get("storage-access-key-id"):
        known = {"access_key_id": key_id, "secret_access_key": secrets.get("storage-secret-access-key", "")}
    return S3Store(
        name,
        prefix=prefix or None,
        config=known,
        # Who names an endpoint says by its scheme whether it is to be spoken to in the open.
        client_options={"allow_http": True, "connect_timeout": "3s", "timeout": "20s"},
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=20)},
    )


def _stored(meta: "ObjectMeta") -> StoredObject:
    return StoredObject(name=meta["path"], size=meta["size"], modified=meta["last_modified"])


def _flush(file: Path) -> None:
    """To the disk itself, its name too."""
    for path in (file, file.parent):
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _discard(folder: Path, before: float) -> None:
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if _UNFINISHED.search(file.name) and file.stat().st_mtime < before:
                file.unlink()
