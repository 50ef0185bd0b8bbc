"""Exports: asked for by an admin, fetched by whoever has the link."""

from typing import Annotated

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from backoffice.api.jobs import JobId, JobView
from backoffice.clients import Filters
from backoffice.domain import SOURCES, ExportFormat, ExportKind, FileGone, JobNotFound
from backoffice.exports.formats import CONTENT_TYPES
from backoffice.exports.jobs import Export, JobStore
from backoffice.exports.progress import file_name
from backoffice.services import services
from backoffice.storage import NotStored
from backoffice.system import linked_job
from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, file_response, refused
from chassis.problems import Invalid
from chassis.telemetry import traceparent
from chassis.wire import RequestBody, example


class ExportRequest(
    RequestBody, json_schema_extra=example(kind="orders", format="xlsx", filters={"from": "2026-01-01T00:00:00Z"})
):
    """`userId` is whose the job is, and who is told; left out, the caller. Without `filters`, all that there is now."""

    kind: ExportKind
    format: ExportFormat = ExportFormat.XLSX
    filters: Filters = Filters()
    user_id: Annotated[str | None, Field(pattern=r"^[\x21-\x7e]{1,64}$")] = None

    def check(self) -> None:
        """Raises Invalid for what could only find nothing."""
        known, since, until = SOURCES[self.kind].statuses, self.filters.since, self.filters.until
        if self.filters.status is not None and self.filters.status not in known:
            raise Invalid("/filters/status", f"{self.kind} are {', '.join(sorted(known))}.")
        if since is not None and until is not None and since >= until:
            raise Invalid("/filters/to", "It has to be later than `from`.")


router = Routes(
    prefix="/api/v1/exports",
    tags=["exports"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


@router.post("", status_code=202, response_model=JobView)
async def ask_for_export(request: Request, response: Response, body: ExportRequest) -> JobView:
    """Nothing of it is lost after the 202, whatever dies."""
    body.check()
    caller, made = caller_of(request), services(request)
    job = await JobStore(made.db, caller.tenant).add(
        Export(kind=body.kind, format=body.format, filters=body.filters),
        user_id=body.user_id or caller.subject,
        tenant_name=caller.tenant_name,
        traceparent=traceparent(),
    )
    # Not waited for: where it can't be begun now, or this process dies here, the sweep begins it.
    made.tasks.spawn(made.exports.start(job), name="export.start")
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return JobView.of(job, made)


@router.get(
    "/{job_id}/file",
    response_class=Response,
    responses={200: file_response(CONTENT_TYPES.values())}
    | refused({403: "link-invalid", 404: "job-not-found", 410: "link-expired, file-gone"}),
)
async def download_export(
    request: Request,
    job_id: JobId,
    expires: Annotated[int, Query(ge=0, le=2**40, description="Unix time")],
    signature: Annotated[str, Query(max_length=128)],
) -> Response:
    """By the link of the job or of the message: no sign-in."""
    made = services(request)
    made.links.check(job_id, expires=expires, signature=signature)
    job = await linked_job(made.db, job_id)
    if job is None:
        raise JobNotFound
    if job.file is None or not job.has_file:
        raise FileGone
    try:
        stored = await made.storage.find(job.file)
    except NotStored:
        raise FileGone from None
    headers = {"Content-Length": str(stored.size), "Content-Disposition": f'attachment; filename="{file_name(job)}"'}
    content = made.storage.read(job.file, 0, stored.size)
    return StreamingResponse(content, headers=headers, media_type=CONTENT_TYPES[job.export.format])
