"""From one driver of a saga to the other: the inline one that gives up, or died, to the durable one.

A saga's row says when somebody must look at it again. Whoever drives it keeps that ahead; the sweep hands over whatever
is due, whatever its status, so that a driver may die on any line. Two drivers at once are harmless.
"""

import hashlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import structlog

from chassis.jobs import Job
from chassis.sidecar import Sidecar, SidecarDown
from chassis.story import Reference
from chassis.tasks import for_each

log = structlog.get_logger()

R = TypeVar("R", bound=Reference)

_EVERY = timedelta(seconds=30)
_AT_ONCE = 4
_BATCH = 200


@dataclass(frozen=True, kw_only=True)
class Takeover(Generic[R]):
    """`due(limit)` finds sagas of every tenant that are due. `postpone(reference, delay)` says that nobody drives it
    here, and that it is due after `delay`; False where it has ended.

    `lease` is how long an inline driver keeps a saga for itself; `past_timer` how far beyond its next timer the durable
    one stays ahead, so that the sweep only meets runs that died.
    """

    workflow: str
    sidecar: Sidecar
    due: Callable[[int], Awaitable[Sequence[R]]]
    postpone: Callable[[R, timedelta], Awaitable[bool]]
    lease: timedelta
    past_timer: timedelta

    def job(self, name: str) -> Job:
        """By the scheduler; in-process at start, and again once a dead predecessor's leases are over."""
        at_start = (timedelta(0), self.lease + timedelta(seconds=0.5))
        return Job(name=name, every=_EVERY, work=self.sweep, at_start=at_start)

    async def sweep(self) -> None:
        due = await self.due(_BATCH)
        if due:
            log.warning("sagas.taken_over", workflow=self.workflow, count=len(due))
        await for_each(due, self._take_over, at_once=_AT_ONCE, name=lambda reference: reference.id)

    async def hand_over(self, reference: R, reason: str) -> None:
        """To the durable driver. Killed between the two, the sweep does the second."""
        if not await self.postpone(reference, self.past_timer):
            return
        log.info("saga.handed_over", workflow=self.workflow, saga=reference.id, reason=reason)
        argument: dict[str, Any] = {"reference": reference.model_dump(mode="json"), "attempt": 0}
        try:
            await self.sidecar.start_workflow(self.workflow, instance_id(reference), argument)
        except SidecarDown:  # nobody has it now: the sweep's next run must find it
            await self.postpone(reference, timedelta(0))

    async def waiting(self, reference: R, delay: timedelta) -> None:
        """The durable driver sleeps; the sweep shall only find it if it does not come back."""
        await self.postpone(reference, delay + self.past_timer)

    async def _take_over(self, reference: R) -> None:
        await self.hand_over(reference, "driver died")


def instance_id(reference: Reference) -> str:
    """At most 64 characters and no colon, as Dapr wants; not guessable across tenants' ids."""
    return f"{_hashed(reference.tenant)[:12]}-{reference.id if _is_uuid(reference.id) else _hashed(reference.id)[:40]}"


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
