"""Files in SQL, as requests see them: those of one tenant, and of one user where only its own are asked for."""

import re
from typing import Any

import sqlalchemy as sa

from backoffice.files.domain import (
    CATEGORY,
    MOVES,
    NAME,
    File,
    FileNotFound,
    FileOfOtherTenant,
    FileStatus,
    NotYourFile,
)
from backoffice.files.upload import Upload
from backoffice.tables import files
from chassis.db import Database
from chassis.ids import new_id, now
from chassis.tenants import elsewhere


class FileStore:
    def __init__(self, db: Database, tenant: str, *, owner: str | None) -> None:
        self._db = db
        self._tenant = tenant
        self._owner = owner

    async def begin(self, category: str, upload: Upload, *, uploaded_by: str) -> File:
        """The row of a file whose content is still to be stored: nothing lies in the storage without one."""
        file_id = new_id()
        file = File(
            id=file_id,
            tenant=self._tenant,
            category=category,
            name=f"{file_id}{upload.extension}",
            original_name=upload.original_name,
            content_type=upload.content_type,
            size=0,
            sha256="",
            uploaded_by=uploaded_by,
            status=FileStatus.UPLOADING,
            created_at=now(),
        )
        await self._db.write(lambda conn: conn.execute(sa.insert(files), file.model_dump()))
        return file

    async def get(self, category: str, name: str) -> File:
        """One that is stored. Raises FileNotFound, FileOfOtherTenant or NotYourFile."""
        return await self._db.read(lambda conn: self._select(conn, category, name))

    async def page(self, *, category: str | None, before: str | None, limit: int) -> list[File]:
        """Newest first (ids are UUIDv7), strictly older than `before`."""
        query = sa.select(files).where(*self._visible()).order_by(files.c.id.desc()).limit(limit)
        if category is not None:
            query = query.where(files.c.category == category)
        if before is not None:
            query = query.where(files.c.id < before)
        return [File.model_validate(row) for row in await self._db.read(lambda conn: list(conn.execute(query)))]

    async def delete(self, category: str, name: str) -> File:
        """Nobody finds it any more; its content is still to go."""

        def work(conn: sa.Connection) -> File:
            file = self._select(conn, category, name)
            if not move(conn, file.id, FileStatus.DELETED):
                raise FileNotFound
            return file

        return await self._db.write(work)

    def _select(self, conn: sa.Connection, category: str, name: str) -> File:
        if not re.match(CATEGORY, category) or not re.match(NAME, name):
            raise FileNotFound  # no name of ours, and not asked of a database
        key = {"id": name.partition(".")[0], "category": category, "name": name}
        this = [files.c[column] == value for column, value in key.items()]
        stored = files.c.status == FileStatus.STORED
        row = conn.execute(sa.select(files).where(files.c.tenant == self._tenant, stored, *this)).one_or_none()
        if row is None:
            is_elsewhere = elsewhere(conn, files, self._tenant, **key, status=FileStatus.STORED)
            raise FileOfOtherTenant if is_elsewhere else FileNotFound
        if self._owner not in {None, row.uploaded_by}:
            raise NotYourFile
        return File.model_validate(row)

    def _visible(self) -> list[sa.ColumnElement[bool]]:
        bound = [files.c.tenant == self._tenant, files.c.status == FileStatus.STORED]
        return bound if self._owner is None else [*bound, files.c.uploaded_by == self._owner]


def move(conn: sa.Connection, file_id: str, target: FileStatus, **values: Any) -> bool:
    """The conditional update that every move is; whether it was one."""
    allowed = [status for status, targets in MOVES.items() if target in targets]
    this = files.c.id == file_id
    moved = sa.update(files).where(this, files.c.status.in_(allowed)).values(status=target, **values)
    return conn.execute(moved).rowcount == 1
