"""PendingOrderProcessor: takes over every order whose driver died, whatever its status."""

import asyncio
from datetime import timedelta

import structlog

from chassis.ids import now
from chassis.jobs import Job
from chassis.sidecar import SidecarDown
from order.saga import OrderRef
from order.steps import Steps
from order.store import DRIVER_LEASE, Stores, SystemStore

log = structlog.get_logger()

_AT_ONCE = 4
_BATCH = 200


class PendingOrderProcessor:
    def __init__(self, *, system: SystemStore, stores: Stores, steps: Steps) -> None:
        self._system = system
        self._stores = stores
        self._steps = steps

    def job(self) -> Job:
        """Every 30 s by the scheduler; in-process at start, and again once a dead predecessor's leases are over."""
        return Job(
            name="PendingOrderProcessor",
            every=timedelta(seconds=30),
            work=self.take_over_due,
            at_start=(timedelta(0), DRIVER_LEASE + timedelta(seconds=0.5)),
        )

    async def take_over_due(self) -> None:
        due = await self._system.due(limit=_BATCH)
        if due:
            log.warning("orders.taken_over", count=len(due))
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(ref: OrderRef) -> None:
            async with places:
                await self._take_over(ref)

        await asyncio.gather(*(one(ref) for ref in due))

    async def _take_over(self, ref: OrderRef) -> None:
        try:
            await self._steps.hand_over(ref, "driver died")
        except SidecarDown:  # nobody has it now: the next run must find it again
            await self._stores.of(ref.tenant).postpone(ref.id, now())
