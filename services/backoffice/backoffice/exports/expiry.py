"""An export's file is kept for some days, unless its person is erased; its job stays, without it."""

from datetime import timedelta

from backoffice.exports.jobs import Job
from backoffice.storage import Storage
from backoffice.system import forget_file, jobs_with_files
from chassis.db import Database
from chassis.ids import now
from chassis.jobs import Job as Recurring
from chassis.tasks import for_each

_BATCH = 200  # files by one run


class Expiry:
    def __init__(self, *, db: Database, storage: Storage, keep: timedelta) -> None:
        self._db = db
        self._storage = storage
        self._keep = keep

    def job(self) -> Recurring:
        return Recurring(name="ExportFiles", every=timedelta(minutes=5), work=self.sweep)

    async def sweep(self) -> None:
        old = await jobs_with_files(self._db, before=now() - self._keep, limit=_BATCH)
        await for_each(old, self._delete, at_once=1, name=lambda job: job.id)

    async def _delete(self, job: Job) -> None:
        """The file first: killed between the two, the next run does both again."""
        if job.file is not None:
            await self._storage.delete(job.file)
        await forget_file(self._db, job)
