"""Recurring work, for people: what there is, what became of its last runs, and a run now. It concerns all tenants."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import Request

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.job_runs import RunView
from chassis.problems import Problem
from chassis.wire import Wire

if TYPE_CHECKING:  # they know of recurring work themselves
    from chassis.flags.memory import Flags
    from chassis.jobs import Jobs


def paused_by(flags: "Flags") -> Callable[[str], bool]:
    """By the setting `Recurring:{name}:Paused`, true or false, of a job's name."""
    return lambda name: flags.value(f"Recurring:{name}:Paused") is True


router = Routes(prefix="/api/v1/recurring", tags=["recurring work"])
_DOWN = {503: "database-unavailable"}


class RecurringView(Wire):
    """`schedule` in the scheduler's words, `@every 30s`. A paused one is only run by hand. `runs`: the last 50, newest
    first."""

    name: str
    schedule: str
    paused: bool
    runs: list[RunView]


class RecurringList(Wire):
    items: list[RecurringView]


class RunStarted(Wire):
    name: str


def _jobs(request: Request) -> "Jobs":
    return request.app.state.jobs


@router.get("", responses=refused(_DOWN))
async def list_recurring(request: Request) -> RecurringList:
    jobs = _jobs(request)
    items = [
        RecurringView(
            name=job.name, schedule=job.schedule, paused=jobs.paused(job.name), runs=await jobs.last_runs(job.name)
        )
        for job in jobs.known()
    ]
    return RecurringList(items=items)


@router.post("/{name}/run", status_code=202, responses=refused(_DOWN | {404: "job-not-found", 409: "job-running"}))
async def run_recurring(request: Request, name: str) -> RunStarted:
    """Begin a run, beside its schedule; a paused one too."""
    match await _jobs(request).run_now(name, by=caller_of(request).subject):
        case None:
            raise Problem(status=404, error_type="job-not-found", title="No such recurring work")
        case False:
            raise Problem(status=409, error_type="job-running", title="It is running", headers={"Retry-After": "5"})
        case _:
            return RunStarted(name=name)
