"""Background jobs: one's own, followed and cancelled."""

from datetime import datetime
from typing import Annotated

from fastapi import Request
from pydantic import Field

from backoffice.domain import JobNotFound, JobStatus
from backoffice.exports.jobs import Job, JobStore
from backoffice.services import Services, services
from chassis.edge.auth import Role, caller_of
from chassis.edge.routes import Routes, refused
from chassis.ids import id_or
from chassis.paging import Cursor, Limit, decode_cursor, next_cursor
from chassis.wire import Wire


class ProgressView(Wire):
    """Rows. `total` is null until the first have come; `percent` is whole, and 100 only once there is a file."""

    done: int
    total: int | None
    percent: Annotated[int, Field(ge=0, le=100)]


class JobView(Wire):
    """`resultUrl` is a link made for this answer, which lets in whoever has it for 24 hours; null where there is no
    file, or none any more. `errorMessage` is why a job failed."""

    job_id: str
    user_id: str
    job_type: str
    status: JobStatus
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    progress: ProgressView
    result_url: str | None
    error_message: str | None

    @classmethod
    def of(cls, job: Job, made: Services) -> "JobView":
        return cls(
            job_id=job.id,
            user_id=job.user_id,
            job_type=job.type,
            status=job.status,
            created_at=job.created_at,
            started_at=job.started_at,
            completed_at=job.completed_at,
            progress=ProgressView(done=job.done, total=job.total, percent=job.percent),
            result_url=made.links.make(job.id)[0] if job.has_file else None,
            error_message=job.error,
        )


class JobPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[JobView]
    next: str | None


JobId = Annotated[str, id_or(JobNotFound)]
_NOT_THEIRS = {403: "different-tenant, not-owner", 404: "job-not-found"}

router = Routes(
    prefix="/api/v1/jobs",
    tags=["jobs"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


def _store(request: Request) -> JobStore:
    caller = caller_of(request)
    return JobStore(services(request).db, caller.tenant, owner=None if caller.may(Role.ADMIN) else caller.subject)


@router.get("")
async def list_jobs(
    request: Request,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> JobPage:
    """One's own, whoever asked for them; newest first."""
    before = decode_cursor(cursor) if cursor is not None else None
    found = await _store(request).page(user_id=caller_of(request).subject, before=before, limit=limit + 1)
    following = next_cursor(found, limit, lambda row: row.id)
    return JobPage(items=[JobView.of(job, services(request)) for job in found[:limit]], next=following)


@router.get("/{job_id}", responses=refused(_NOT_THEIRS))
async def get_job(request: Request, job_id: JobId) -> JobView:
    return JobView.of(await _store(request).get(job_id), services(request))


@router.delete("/{job_id}", responses=refused(_NOT_THEIRS | {409: "job-ended"}))
async def cancel_job(request: Request, job_id: JobId) -> JobView:
    """It stops at its next step, and what was made of it goes. Its record stays."""
    return JobView.of(await _store(request).cancel(job_id), services(request))
