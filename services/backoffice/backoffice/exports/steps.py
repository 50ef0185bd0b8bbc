"""What an export's workflow does, step by step. Each may be done again, by anyone, at any time: what was read is
read no second time, and what was written is written once."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import structlog

from backoffice.clients import Rows
from backoffice.domain import JobStatus
from backoffice.exports.formats import WRITERS
from backoffice.exports.jobs import Job
from backoffice.exports.progress import Part, Progress, file_name
from backoffice.storage import Storage
from chassis.export_pages import Cell
from chassis.ids import new_id
from chassis.saga import Reference

log = structlog.get_logger()

_CHUNK = 1024 * 1024
_LEFT_BEHIND = 24 * 3600  # seconds after which what a killed process was writing is nobody's

WORDS = {
    "read": "The rows could not be read. Please ask for the export again.",
    "write": "The file could not be written. Please ask for the export again.",
}


class Steps:
    """`folder` is where files are written before they are stored."""

    def __init__(self, *, progress: Progress, rows: Rows, storage: Storage, folder: Path) -> None:
        self._progress = progress
        self._rows = rows
        self._storage = storage
        self._folder = folder

    async def page(self, reference: Reference) -> bool:
        """Read the next page and keep it; whether there is more to read."""
        job = await self._progress.take_up(reference)
        last = await self._progress.last_part(job) if job else None
        if job is None or (last and last.next is None):
            return False
        export = job.export
        filters = export.filters.model_copy(update={"until": export.filters.until or job.created_at})
        page = await self._rows.page(job.tenant, export.kind, filters, last.next if last else None)
        number = last.number + 1 if last else 0
        # Under a name of its own: another who reads the same page at the same time must not change what counts.
        part = Part(number=number, object=f"{_folder_of(job)}/{number:06}-{new_id()}.jsonl", next=page.next)
        await self._storage.put(part.object, _lines(page.items))
        if not await self._progress.add_part(job, part, page):
            await self._storage.delete(part.object)
        return True

    async def finish(self, reference: Reference) -> None:
        """One file of all parts, stored, and the job completed; where it has ended already, only the parts go."""
        job = await self._progress.get(reference.tenant, reference.id)
        if job.status is JobStatus.PROCESSING:
            await self._complete(job)
        await self._clear(job)

    async def fail(self, reference: Reference, what: str) -> None:
        """It was tried three times."""
        job = await self._progress.get(reference.tenant, reference.id)
        if await self._progress.fail(job, WORDS[what]):
            log.error("export.failed", job=job.id, kind=job.export.kind, step=what)
        await self._clear(job)

    async def _complete(self, job: Job) -> None:
        began = time.monotonic()
        key = f"{_folder_of(job)}/{file_name(job)}"
        await asyncio.to_thread(_make_room, self._folder)
        with TemporaryDirectory(dir=self._folder) as folder:
            path = Path(folder) / file_name(job)
            await self._write(job, path)
            await self._storage.put(key, _chunks(path))
        if await self._progress.complete(job, key):
            log.info("export.completed", job=job.id, rows=job.done, seconds=round(time.monotonic() - began, 1))

    async def _write(self, job: Job, path: Path) -> None:
        """On threads, part by part: whoever asks something of this process meanwhile is answered."""
        writer = await asyncio.to_thread(WRITERS[job.export.format], path, job.columns)
        for part in await self._progress.parts(job):
            lines = b"".join([block async for block in self._storage.read(part.object)]).splitlines()
            await asyncio.to_thread(writer.write, map(orjson.loads, lines))
        await asyncio.to_thread(writer.close)

    async def _clear(self, job: Job) -> None:
        """All but its file: what was read, also what nobody has written down, and a file that came too late."""
        kept = (await self._progress.get(job.tenant, job.id)).file
        for stored in [stored async for stored in self._storage.list(_folder_of(job))]:
            if stored.name != kept:
                await self._storage.delete(stored.name)
        await self._progress.forget_parts(job)


def _folder_of(job: Job) -> str:
    """Of its parts, and of its file."""
    return f"exports/{job.id}"


async def _lines(rows: Sequence[Sequence[Cell]]) -> AsyncIterator[bytes]:
    yield b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


def _make_room(folder: Path) -> None:
    """For a file, and of what a process left behind that was killed while it wrote one."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        with suppress(FileNotFoundError):  # another process did the same
            if time.time() - left.stat().st_mtime > _LEFT_BEHIND:
                shutil.rmtree(left, ignore_errors=True)
