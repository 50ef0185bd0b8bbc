"""PendingOrderProcessor: takes over every order whose driver died, whatever its status."""

import asyncio
from datetime import timedelta

import structlog

from chassis.jobs import Job
from order.orders import DRIVER_LEASE
from order.saga import OrderRef
from order.steps import Steps
from order.system import SystemStore

log = structlog.get_logger()

_AT_ONCE = 4
_BATCH = 200


class PendingOrderProcessor:
    def __init__(self, *, system: SystemStore, steps: Steps) -> None:
        self._system = system
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
                await self._steps.hand_over(ref, "driver died")

        await asyncio.gather(*(one(ref) for ref in due))
