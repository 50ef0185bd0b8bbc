"""Files: left here, looked at, fetched and deleted by whoever uploaded them, or by an admin."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse

from backoffice.files import download
from backoffice.files.domain import CATEGORY, DEFAULT_CATEGORY, File, FileNotFound
from backoffice.files.file_types import TYPES
from backoffice.files.store import FileStore
from backoffice.files.upload import joined, receive
from backoffice.services import services
from backoffice.storage import NotStored
from chassis.edge.auth import Role, caller_of
from chassis.edge.routes import Routes, file_response, refused
from chassis.paging import Cursor, Limit, decode_cursor, next_cursor
from chassis.wire import Wire

router = Routes(prefix="/api/v1", tags=["files"], responses=refused({503: "database-unavailable, storage-unavailable"}))

Category = Annotated[str, Query(pattern=CATEGORY)]


class UploadedFile(Wire):
    """`fileName` is `category/name`; `url` is its path on this service; `size` in bytes."""

    file_name: str
    original_file_name: str
    url: str
    size: int
    sha256: str


class ListedFile(UploadedFile):
    content_type: str
    uploaded_by: str
    created_at: datetime


class FilePage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[ListedFile]
    next: str | None


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
_UPLOAD_REFUSALS = {
    400: "malformed-multipart",
    415: "file-type-not-allowed",
    422: "invalid-request",
}
_NOT_THEIRS = {403: "different-tenant, not-owner", 404: "file-not-found"}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: file_response(TYPES.values()),
    206: file_response(TYPES.values(), description="The range of it that was asked for"),
    304: {"description": "It is known (`If-None-Match`)"},
}


def _shown(file: File) -> ListedFile:
    return ListedFile(
        file_name=file.path,
        original_file_name=file.original_name,
        url=f"{router.prefix}/files/{file.path}",
        size=file.size,
        sha256=file.sha256,
        content_type=file.content_type,
        uploaded_by=file.uploaded_by,
        created_at=file.created_at,
    )


def _store(request: Request) -> FileStore:
    """A file is its uploader's; an admin sees the tenant's."""
    caller = caller_of(request)
    owner = None if caller.may(Role.ADMIN) else caller.subject
    return FileStore(services(request).db, caller.tenant, owner=owner)


@router.post(
    "/files", status_code=201, response_model=UploadedFile, responses=refused(_UPLOAD_REFUSALS), openapi_extra=_FORM
)
async def upload_file(request: Request, response: Response, category: Category = DEFAULT_CATEGORY) -> UploadedFile:
    """Leave a file: .jpg, .jpeg, .png, .pdf or .docx, in the one part `file` of the form, and of that type indeed."""
    made = services(request)
    upload = await receive(request, max_bytes=made.settings.max_file_bytes)
    file = await made.keeping.take(_store(request), category, upload, uploaded_by=caller_of(request).subject)
    shown = _shown(file)
    response.headers["Location"] = shown.url
    return shown


@router.get("/files", responses=refused({422: "invalid-request"}))
async def list_files(
    request: Request,
    category: Annotated[str | None, Query(pattern=CATEGORY)] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> FilePage:
    """One's own, newest first; an admin's are the tenant's."""
    before = decode_cursor(cursor) if cursor is not None else None
    found = await _store(request).page(category=category, before=before, limit=limit + 1)
    following = next_cursor(found, limit, lambda row: row.id)
    return FilePage(items=[_shown(file) for file in found[:limit]], next=following)


@router.get(
    "/files/{category}/{name}",
    response_class=StreamingResponse,
    responses=_CONTENT | refused(_NOT_THEIRS | {416: "range-not-satisfiable"}),
)
async def get_file(request: Request, category: str, name: str) -> Response:
    """The file as an attachment, or one range of it."""
    file = await _store(request).get(category, name)
    headers = {"ETag": download.etag_of(file), "Cache-Control": "private, no-cache", "Accept-Ranges": "bytes"}
    if download.is_known(request, file):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = download.attachment(file)
    wanted = download.range_of(request, file)
    begin, end = wanted or (0, file.size)
    headers["Content-Length"] = str(end - begin)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{file.size}"
    content = services(request).storage.read(file.key, begin, end)
    try:
        first = await anext(content)  # before it is answered that there is one
    except NotStored:  # deleted at this moment
        raise FileNotFound from None
    return StreamingResponse(
        joined(first, content),
        status_code=200 if wanted is None else 206,
        headers=headers,
        media_type=file.content_type,
    )


@router.delete("/files/{category}/{name}", status_code=204, responses=refused(_NOT_THEIRS))
async def delete_file(request: Request, category: str, name: str) -> None:
    file = await _store(request).delete(category, name)
    await services(request).keeping.discard(file)
