"""Row and content together: a row comes before its content and goes after it, so that whatever dies in between leaves
what the sweep finds. The sweep knows no tenant: what is left over is nobody's."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
import structlog

from backoffice.files.domain import FOLDER, File, FileStatus
from backoffice.files.store import FileStore, move
from backoffice.files.upload import Upload
from backoffice.storage import Storage, StoredObject
from backoffice.tables import files
from chassis.db import Database
from chassis.ids import now
from chassis.jobs import Job
from chassis.problems import Unavailable
from chassis.tasks import for_each

log = structlog.get_logger()

_BATCH = 500  # rows or names by one statement


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """An upload that has taken longer than `abandoned` is none any more."""

    db: Database
    storage: Storage
    abandoned: timedelta

    @property
    def job(self) -> Job:
        return Job(name="FileSweep", every=timedelta(minutes=10), work=self.sweep, at_start=(timedelta(minutes=1),))

    async def take(self, store: FileStore, category: str, upload: Upload, *, uploaded_by: str) -> File:
        """A file that is stored. Where that fails, nothing of it is."""
        file = await store.begin(category, upload, uploaded_by=uploaded_by)
        try:
            await self.storage.put(file.key, upload.content())
            return await self._settle(file, upload)
        except Exception:
            await self.db.write(lambda conn: move(conn, file.id, FileStatus.DELETED))
            await self.discard(file)
            raise

    async def _settle(self, file: File, upload: Upload) -> File:
        known = {"size": upload.size, "sha256": upload.sha256}
        if not await self.db.write(lambda conn: move(conn, file.id, FileStatus.STORED, **known)):
            raise Unavailable("storage")  # it took so long that the sweep has been here
        return file.model_copy(update={"status": FileStatus.STORED, **known})

    async def discard(self, file: File) -> None:
        """Of a deleted file the content, and then the row. What fails here the sweep does again."""
        try:
            await self._discard(file)
        except Unavailable:
            log.warning("file.left_to_the_sweep", file=file.id)

    async def sweep(self) -> None:
        while True:
            left = await self._left_over()
            done = await for_each(left, self._discard, at_once=4, name=lambda file: file.id)
            if len(left) < _BATCH or True not in done:
                break
        await self._sweep_storage()

    async def _discard(self, file: File) -> bool:
        await self.storage.delete(file.key)
        await self.db.write(lambda conn: conn.execute(sa.delete(files).where(files.c.id == file.id)))
        return True

    async def _left_over(self) -> list[File]:
        """Files that are deleted, and those that never became stored: from now on they can't."""
        late = sa.and_(files.c.status == FileStatus.UPLOADING, files.c.created_at < now() - self.abandoned)
        give_up = sa.update(files).where(late).values(status=FileStatus.DELETED)
        deleted = sa.select(files).where(files.c.status == FileStatus.DELETED).order_by(files.c.id).limit(_BATCH)

        def work(conn: sa.Connection) -> list[File]:
            conn.execute(give_up)
            return [File.model_validate(row) for row in conn.execute(deleted)]

        return await self.db.write(work)

    async def _sweep_storage(self) -> None:
        """Content without a row, which no order of events that we know of leaves behind, and what is no file yet."""
        await self.storage.discard_unfinished(older_than=self.abandoned)
        before = now() - self.abandoned
        batch: list[StoredObject] = []
        async for found in self.storage.list(FOLDER):
            if found.modified < before:
                batch.append(found)
            if len(batch) == _BATCH:
                await self._delete_unknown(batch)
                batch = []
        await self._delete_unknown(batch)

    async def _delete_unknown(self, found: Collection[StoredObject]) -> None:
        by_id = {one.name.rpartition("/")[2].partition(".")[0]: one.name for one in found}
        known = sa.select(files.c.id).where(files.c.id.in_(by_id))
        kept = set(await self.db.read(lambda conn: list(conn.execute(known).scalars()))) if by_id else set[str]()
        for name in (name for file_id, name in by_id.items() if file_id not in kept):
            log.warning("file.without_a_row", object=name)
            await self.storage.delete(name)
