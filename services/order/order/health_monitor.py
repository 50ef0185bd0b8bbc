"""HealthMonitor: the checks of `/health` as a recurring workflow, what they found kept, and each change told of."""

from datetime import timedelta
from typing import Literal

import orjson
import sqlalchemy as sa
import structlog

from chassis.db import Database, upsert
from chassis.health import Health
from chassis.ids import new_id, now
from chassis.jobs import Job
from chassis.retention import Expiry
from chassis.saga import Performer, Run, Saga, StepRecord
from chassis.sidecar import Sidecar
from chassis.story import Kind, Phase, Reference, Step, Story, Value
from chassis.tasks import Tasks
from chassis.telemetry import meter
from order.tables import health_results

log = structlog.get_logger()

WORKFLOW = "HealthCheckWorkflow"
EXPIRY = Expiry.of(health_results.c.at, timedelta(days=30))
_INSTANCE = "HealthMonitor"  # there is never more than one, however long it takes
_EVERY = timedelta(minutes=5)
_SECONDS = 8.0

_changes = meter.create_counter("health_changes_total", description="How often health changed, by what it became")


class Checked(Value):
    kind: Literal["checked"] = "checked"
    status: str
    checks: dict[str, str]


class Kept(Value):
    """`before` is None where nothing changed, or nothing was known."""

    kind: Literal["kept"] = "kept"
    before: str | None = None


def check_health(_check: Reference) -> Story[Kept]:
    found = yield Step(title="check", timeout=_SECONDS)
    return (yield Step(title="keep", kind=Kind.THEN, phase=Phase.THEN, argument=found, timeout=_SECONDS))


class HealthMonitor:
    def __init__(self, *, db: Database, sidecar: Sidecar, health: Health, tasks: Tasks) -> None:
        self._db = db
        self._sidecar = sidecar
        self._health = health
        self.saga: Saga[Reference] = Saga(
            name=WORKFLOW,
            story=check_health,
            reference=Reference,
            performers={
                "check": Performer(perform=self.check, outcome=Checked),
                "keep": Performer(perform=self.keep, outcome=Kept, argument=Checked),
            },
            flush=self.flush,
            takeover=self,
            tasks=tasks,
            step_seconds=_SECONDS,
        )

    def job(self) -> Job:
        return Job(name="HealthMonitor", every=_EVERY, work=self.begin, at_start=(timedelta(0),))

    async def begin(self) -> None:
        check = Reference(tenant="", id=new_id())
        argument = {"reference": check.model_dump(mode="json"), "attempt": 0}
        await self._sidecar.start_workflow(WORKFLOW, _INSTANCE, argument)

    async def check(self, _check: Reference, _argument: None, _run: Run) -> Checked:
        report = await self._health.report()
        return Checked(status=report.status, checks={name: one.status for name, one in (report.checks or {}).items()})

    async def keep(self, check: Reference, found: Checked, _run: Run) -> Kept:
        """Once for each check, however often it is performed."""
        before = await self._db.write(lambda conn: _keep(conn, check.id, found))
        if before is not None:
            _changes.add(1, {"status": found.status})
            log.warning("health.changed", before=before, status=found.status, checks=found.checks)
        return Kept(before=before)

    async def flush(self, _check: Reference, _records: list[StepRecord]) -> None:
        """What it found is its record."""

    async def hand_over(self, _check: Reference, _reason: str) -> None:
        """Nobody drives it inline."""

    async def waiting(self, _check: Reference, _delay: timedelta) -> None:
        """Nobody takes it over: the next one comes soon."""


def _keep(conn: sa.Connection, check_id: str, found: Checked) -> str | None:
    newest = sa.select(health_results.c.status).order_by(health_results.c.id.desc()).limit(1)
    before = conn.execute(newest).scalar_one_or_none()
    changed = before not in {None, found.status}
    row = {"id": check_id, "status": found.status, "checks": orjson.dumps(found.checks).decode(), "changed": changed}
    kept = upsert(conn, health_results).values(row | {"at": now()}).on_conflict_do_nothing()
    return before if conn.execute(kept).rowcount == 1 and changed else None
