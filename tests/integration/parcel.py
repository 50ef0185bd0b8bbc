"""A service with one story of four steps, a pair of them at once and a compensation of two, on the saga kit alone. It
stands still where it is told to by a file, so that a test can kill it there; each effect is a row, by its key."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
import uvicorn
from dapr.ext.workflow import WorkflowRuntime
from fastapi import FastAPI, HTTPException

from chassis.db import Database, upsert
from chassis.saga import Incident, Performer, Run, Saga, StepRecord
from chassis.sidecar import Sidecar
from chassis.story import Failed, Kind, OnError, Phase, Reference, Retry, Step, Story, Together, Value
from chassis.takeover import Takeover
from chassis.tasks import Tasks
from chassis.workflow import Workflow

FOLDER = Path(os.environ["PARCEL_FOLDER"])
TITLES = ("take", "pay", "wrap", "pack", "send", "pay_back", "unpack")
SOON = Retry(attempts=3, first_delay=0.1, factor=1)

metadata = sa.MetaData()
effects = sa.Table(
    "effects",
    metadata,
    sa.Column("parcel", sa.String, primary_key=True),
    sa.Column("step", sa.String, primary_key=True),
)
told = sa.Table("told", metadata, *(sa.Column(name, sa.String) for name in ("parcel", "step", "status", "error")))


class Done(Value):
    kind: Literal["done"] = "done"


class Refused(Value):
    kind: Literal["refused"] = "refused"


def parcel(_ref: Reference) -> Story[Done | Refused]:
    """Taken from the shelf; paid, packed and, where that can be done, wrapped as a gift; then sent. What can't be sent
    is paid back and unpacked."""
    yield Step(title="take", kind=Kind.GIVEN, phase=Phase.GIVEN)
    yield Together(Step(title="pay"), Step(title="pack"), Step(title="wrap", retry=SOON, on_error=OnError.CONTINUE))
    if isinstance((yield Step(title="send", kind=Kind.THEN, phase=Phase.THEN)), Done):
        return Done()
    yield Together(_undo("pay_back"), _undo("unpack"))
    return Refused()


def _undo(title: str) -> Step:
    return Step(title=title, kind=Kind.BUT, phase=Phase.COMPENSATION, retry=SOON)


class Steps:
    def __init__(self, db: Database) -> None:
        self._db = db

    def performer(self, title: str) -> Performer:
        async def perform(ref: Reference, _argument: None, _run: Run) -> Any:
            await _stand_still(f"{ref.id}.{title}.before")
            if (FOLDER / f"{ref.id}.{title}.broken").exists():
                raise RuntimeError("it broke")
            if (FOLDER / f"{ref.id}.{title}.refused").exists():
                return Refused() if title == "send" else Failed(reason="refused")
            row = {"parcel": ref.id, "step": title}
            await self._db.write(lambda conn: conn.execute(upsert(conn, effects).values(row).on_conflict_do_nothing()))
            await _stand_still(f"{ref.id}.{title}.after")
            return Done()

        return Performer(perform=perform, outcome=Done | Refused)

    async def flush(self, ref: Reference, records: list[StepRecord]) -> None:
        rows = [{"parcel": ref.id, "step": one.step, "status": one.status, "error": one.error} for one in records]
        await self._db.write(lambda conn: conn.execute(sa.insert(told), rows))

    async def incident(self, ref: Reference, incident: Incident) -> None:
        status = "compensation_failed" if incident.stops else "given_up"
        row = {"parcel": ref.id, "step": incident.step.title, "status": status, "error": incident.error}
        await self._db.write(lambda conn: conn.execute(sa.insert(told), row))


async def _stand_still(where: str) -> None:
    if (pause := FOLDER / f"{where}.pause").exists():
        pause.rename(FOLDER / f"{where}.reached")
        await asyncio.Event().wait()


async def _nobody(_limit: int) -> list[Reference]:
    return []


async def _postpone(_ref: Reference, delay: timedelta) -> bool:
    """Without a delay where the engine was not there, so that a sweep finds it: here whoever asked asks again."""
    if not delay:
        raise HTTPException(503)
    return True


def create_app() -> FastAPI:
    sidecar = Sidecar(port=int(os.environ["DAPR_HTTP_PORT"]), source="parcel", api_token=os.environ["DAPR_API_TOKEN"])
    db = Database(f"sqlite:///{FOLDER}/parcel.db")
    steps, minute = Steps(db), timedelta(minutes=1)
    takeover: Takeover[Reference] = Takeover(
        workflow="parcel", sidecar=sidecar, due=_nobody, postpone=_postpone, lease=minute, past_timer=minute
    )
    saga = Saga(
        name="parcel",
        story=parcel,
        reference=Reference,
        performers={title: steps.performer(title) for title in TITLES},
        flush=steps.flush,
        incident=steps.incident,
        takeover=takeover,
        tasks=Tasks(),
    )
    runtime = WorkflowRuntime(port=os.environ["DAPR_GRPC_PORT"])

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncGenerator[None]:
        await db.start()
        await db.write(metadata.create_all)
        await sidecar.start()
        Workflow(saga).register(runtime, asyncio.get_running_loop())
        await asyncio.to_thread(runtime.start)
        yield

    app = FastAPI(lifespan=running)

    @app.get("/health/live")
    @app.get("/health/ready")
    async def well() -> None:
        """It is."""

    @app.post("/parcels/{name}")
    async def send(name: str) -> None:
        await takeover.hand_over(Reference(tenant="t", id=name), "asked")

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(), port=int(os.environ["APP_PORT"]), log_level="warning")
