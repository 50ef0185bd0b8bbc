"""Row and content together, whatever comes in between."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from backoffice.files.domain import File
from backoffice.files.keeping import Keeping
from backoffice.files.store import FileStore
from backoffice.files.upload import Upload
from backoffice.storage import Storage
from backoffice.tables import files
from chassis.db import Database
from chassis.ids import new_id
from chassis.problems import Unavailable

PDF = b"%PDF-1.7 a file"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def db(database: Path) -> AsyncIterator[Database]:
    made = Database(f"sqlite:///{database}")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def keeping(db: Database, database: Path) -> Keeping:
    storage = Storage(f"file:{database.parent}/storage", {})
    await storage.start()
    return Keeping(db=db, storage=storage, abandoned=timedelta(hours=1))


async def content(piece: bytes = PDF) -> AsyncIterator[bytes]:
    yield piece


def upload() -> Upload:
    return Upload("a.pdf", PDF, content(), 1000)


async def kept(keeping: Keeping) -> tuple[set[str], set[str]]:
    """Ids of rows, and names in the storage."""
    ids = await keeping.db.read(lambda conn: set(conn.execute(sa.select(files.c.id)).scalars()))
    return ids, {found.name async for found in keeping.storage.list("")}


async def begun(keeping: Keeping, at: datetime | None = None) -> File:
    """An upload whose process died when all had come."""
    file = await FileStore(keeping.db, "default", owner=None).begin("general", upload(), uploaded_by="u-1")
    await keeping.storage.put(file.key, content())
    if at is not None:
        await keeping.db.write(
            lambda conn: conn.execute(sa.update(files).values(created_at=at).where(files.c.id == file.id))
        )
    return file


async def test_the_sweep_throws_out_what_never_became_a_file_and_nothing_else(keeping):
    store = FileStore(keeping.db, "default", owner=None)
    stored = await keeping.take(store, "general", upload(), uploaded_by="u-1")
    coming, _abandoned = await begun(keeping), await begun(keeping, LONG_AGO)
    unknown = f"files/general/{new_id()}.pdf"
    for name in (unknown, "exports/1.pdf"):
        await keeping.storage.put(name, content())

    await keeping.sweep()
    assert await kept(keeping) == ({stored.id, coming.id}, {stored.key, coming.key, unknown, "exports/1.pdf"})

    await Keeping(db=keeping.db, storage=keeping.storage, abandoned=timedelta(0)).sweep()
    assert await kept(keeping) == ({stored.id}, {stored.key, "exports/1.pdf"})


class Slow(Storage):
    """When all of a file has come, the sweep has been there."""

    def __init__(self, url: str, db: Database) -> None:
        super().__init__(url, {})
        self._db = db

    async def put(self, name: str, content: AsyncIterator[bytes]) -> None:
        await super().put(name, content)
        await Keeping(db=self._db, storage=self, abandoned=timedelta(0)).sweep()
        await super().put(name, again())


async def again() -> AsyncIterator[bytes]:
    yield PDF


async def test_an_upload_that_the_sweep_has_overtaken_is_no_file(db, database):
    slow = Slow(f"file:{database.parent}/storage", db)
    await slow.start()
    keeping = Keeping(db=db, storage=slow, abandoned=timedelta(hours=1))

    with pytest.raises(Unavailable):
        await keeping.take(FileStore(db, "default", owner=None), "general", upload(), uploaded_by="u-1")

    assert await kept(keeping) == (set(), set())
