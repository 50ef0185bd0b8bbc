"""A saga whose driver gave up or died is somebody's again, and one that can't be taken over keeps no other from it."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
import structlog
from sqlalchemy.exc import OperationalError

from chassis.story import Reference
from chassis.takeover import Takeover, instance_id
from stack.fake_sidecar import FakeSidecar

MINUTE = timedelta(seconds=60)
ID = "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a01"


def reference(name: str = ID, tenant: str = "t") -> Reference:
    return Reference(tenant=tenant, id=name)


class Rows:
    """When each saga that has not ended is due, from now."""

    def __init__(self, *names: str) -> None:
        self.due_after = dict.fromkeys(names, timedelta(0))
        self.broken: dict[str, Exception] = {}

    async def due(self, limit: int) -> Sequence[Reference]:
        now = [name for name, delay in self.due_after.items() if delay <= timedelta(0)]
        return [reference(name) for name in now[:limit]]

    async def postpone(self, saga: Reference, delay: timedelta) -> bool:
        if saga.id in self.broken:
            raise self.broken[saga.id]
        if saga.id not in self.due_after:
            return False
        self.due_after[saga.id] = delay
        return True


def takeover(rows: Rows, sidecar: FakeSidecar) -> Takeover[Reference]:
    lease = timedelta(seconds=10)
    return Takeover(workflow="w", sidecar=sidecar, due=rows.due, postpone=rows.postpone, lease=lease, past_timer=MINUTE)


async def test_what_is_handed_over_is_the_durable_drivers_and_the_sweep_stays_away():
    rows, sidecar = Rows(ID), FakeSidecar()

    await takeover(rows, sidecar).hand_over(reference(), "timeout")

    argument = {"reference": reference().model_dump(), "attempt": 0}
    assert sidecar.workflows == {instance_id(reference()): ("w", argument)}
    assert rows.due_after == {ID: MINUTE}


async def test_what_has_ended_is_handed_to_nobody():
    rows, sidecar = Rows(), FakeSidecar()

    await takeover(rows, sidecar).hand_over(reference(), "timeout")

    assert sidecar.workflows == {}


async def test_where_no_engine_answers_the_next_sweep_finds_it():
    rows, sidecar = Rows(ID), FakeSidecar()
    sidecar.alive = False
    await takeover(rows, sidecar).sweep()
    sidecar.alive = True

    await takeover(rows, sidecar).sweep()

    assert list(sidecar.workflows) == [instance_id(reference())]


async def test_the_durable_driver_that_sleeps_keeps_the_sweep_away_past_its_timer():
    rows, sidecar = Rows(ID), FakeSidecar()

    await takeover(rows, sidecar).waiting(reference(), timedelta(seconds=20))
    await takeover(rows, sidecar).sweep()

    assert rows.due_after == {ID: MINUTE + timedelta(seconds=20)}
    assert sidecar.workflows == {}


@pytest.mark.parametrize(
    ("broken", "event"),
    [(RuntimeError("a bug"), "item.failed"), (OperationalError("SELECT", {}, Exception()), "item.postponed")],
)
async def test_a_saga_that_cannot_be_taken_over_is_named_and_keeps_no_other_from_it(broken: Exception, event: str):
    rows, sidecar = Rows("a", "b", "c"), FakeSidecar()
    rows.broken["a"] = broken

    with structlog.testing.capture_logs() as logs:
        await takeover(rows, sidecar).sweep()

    assert list(sidecar.workflows) == [instance_id(reference("b")), instance_id(reference("c"))]
    assert [(record["event"], record["item"]) for record in logs if "item" in record] == [(event, "a")]


def test_it_runs_every_half_minute_at_once_on_start_and_when_a_dead_predecessors_leases_are_over():
    job = takeover(Rows(), FakeSidecar()).job("Pending")

    assert (job.schedule, job.at_start) == ("@every 30s", (timedelta(0), timedelta(seconds=10.5)))


@pytest.mark.parametrize("name", [ID, "loan:7", "x" * 255, ""])
def test_an_instance_id_is_as_dapr_wants_it_and_differs_between_tenants(name: str):
    ids = {instance_id(reference(name, tenant)) for tenant in ("a", "b")}

    assert len(ids) == 2
    assert all(len(made) <= 64 and ":" not in made for made in ids)
