"""Get-or-drive: an open attempt is joined or driven on, never replayed and never guessed.

One driver at a time has the claim. It looks the key up wherever an earlier call may have reached the provider, posts
under the same key only while that is safe, and otherwise leaves the row for the next check.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic

import structlog

from chassis.ids import now
from chassis.tasks import Tasks, for_each
from chassis.telemetry import continued, told_of, tracer
from payment.attempts import A, Attempts
from payment.domain import Absent, Final, Outcome, Refused, Unknown, may_post, proves_absence

log = structlog.get_logger()

_POLL = 0.2
_TIMER_UP_TO = timedelta(seconds=30)  # later checks are found by the sweep
_BATCH = 100
_AT_ONCE = 8


@dataclass(kw_only=True)
class Driver(Generic[A]):
    """`post` and `look_up` ask the provider; `settle` records a final outcome.

    `turn_to_next` leaves a provider that has certainly done nothing, and never will, for another; None: there is none.
    `call` is how long one call may take: one that could arrive after the attempt's `posted_until` is not made.
    """

    kind: str
    attempts: Attempts[A]
    post: Callable[[A], Awaitable[Outcome]]
    look_up: Callable[[A], Awaitable[Outcome | Absent]]
    settle: Callable[[A, Final], Awaitable[A | None]]
    turn_to_next: Callable[[A, str], Awaitable[A | None]]
    tasks: Tasks
    answer_seconds: float
    call: timedelta

    def __post_init__(self) -> None:
        self._driven: dict[str, asyncio.Task[A | None]] = {}
        self._timers = Tasks()

    async def drive(self, attempt: A, *, fresh: bool) -> A:
        """The attempt as it is once it is final, or once `answer_seconds` have passed; driving goes on by itself.

        `fresh` says that this caller has just made the row, and so holds its claim.
        """
        if attempt.final:
            return attempt
        driving = self._drive_on(attempt.id, attempt if fresh else None)
        await asyncio.wait({driving}, timeout=self.answer_seconds)
        settled = driving.result() if driving.done() and not driving.exception() else None
        return settled or await self.attempts.get(attempt.id)

    async def stop(self) -> None:
        """Forget the timers; what they were to drive is due in its row. Drives under way are the tasks' to drain."""
        await self._timers.drain(within=0)

    async def sweep(self) -> None:
        """Drive every row whose check is due; alert when one has been unknown for a day."""
        due = await self.attempts.due(limit=_BATCH)
        await for_each(due, lambda attempt_id: self._drive_on(attempt_id, None), at_once=_AT_ONCE, name=str)
        if overdue := await self.attempts.overdue():
            log.error("outcome.unknown_for_a_day", kind=self.kind, count=overdue)

    def _drive_on(self, attempt_id: str, claimed: A | None) -> asyncio.Task[A | None]:
        """The running drive of this process, or a new one. Who comes with the claim only finds watchers, and drives."""
        if claimed is None and (running := self._driven.get(attempt_id)) is not None:
            return running
        work = self._once(attempt_id, claimed)
        task = self._driven[attempt_id] = self.tasks.spawn(work, name=f"{self.kind}.{attempt_id}")
        task.add_done_callback(lambda done: self._forget(attempt_id, done))
        return task

    def _forget(self, attempt_id: str, done: asyncio.Task[A | None]) -> None:
        if self._driven.get(attempt_id) is done:
            del self._driven[attempt_id]

    async def _once(self, attempt_id: str, claimed: A | None) -> A | None:
        """Drive an attempt once; it as it is when this settled it."""
        fresh = claimed is not None
        attempt = claimed or await self.attempts.claim(attempt_id)
        if attempt is None:
            await self._watch(attempt_id)
            return None
        with (
            continued(attempt.traceparent),
            tracer.start_as_current_span(f"{self.kind}.drive"),
            told_of(tenant=attempt.tenant, tenant_name=attempt.tenant_name),
        ):
            attempt, outcome = await self._ask(attempt, fresh=fresh)
            if not isinstance(outcome, Unknown):
                if (settled := await self.settle(attempt, outcome)) is not None:
                    log.info(f"{self.kind}.settled", attempt_id=attempt_id, outcome=type(outcome).__name__)  # noqa: G004
                return settled
            delay = await self.attempts.still_unknown(attempt)
            log.warning(f"{self.kind}.unknown", attempt_id=attempt_id, reason=outcome.reason)  # noqa: G004
        if delay <= _TIMER_UP_TO:
            self._timers.spawn(self._later(attempt_id, delay), name=f"{self.kind}.timer")
        return None

    async def _watch(self, attempt_id: str) -> None:
        """Another replica has the claim: its answer is ours."""
        for _ in range(int(self.answer_seconds / _POLL)):
            if (await self.attempts.get(attempt_id)).final:
                return
            await asyncio.sleep(_POLL)

    async def _later(self, attempt_id: str, delay: timedelta) -> None:
        await asyncio.sleep(delay.total_seconds())
        self._drive_on(attempt_id, None)

    async def _ask(self, attempt: A, *, fresh: bool) -> tuple[A, Outcome]:
        """What became of it, and the attempt as it went to the provider."""
        nothing_under_way = fresh
        if not fresh:
            asked_at = now()
            known = await self.look_up(attempt)
            if not isinstance(known, Absent):
                return attempt, known
            nothing_under_way = proven = proves_absence(attempt, at=asked_at)
            if not may_post(attempt, at=asked_at):
                never = Refused(reason="never processed") if proven else Unknown(reason="not at the provider yet")
                return attempt, never
            if proven and attempt.posted_until is not None:
                attempt = await self.turn_to_next(attempt, "unknown there after the processing limit") or attempt
            posting = await self.attempts.posting(attempt)
            if posting is None or posting.given_up:
                return posting or attempt, Unknown(reason="moved or given up meanwhile")
            attempt = posting
        if attempt.posted_until is not None and now() + self.call > attempt.posted_until:
            return attempt, Unknown(reason="held up for too long to post")
        return await self._post(attempt, nothing_under_way=nothing_under_way)

    async def _post(self, attempt: A, *, nothing_under_way: bool) -> tuple[A, Outcome]:
        outcome = await self.post(attempt)
        if isinstance(outcome, Unknown):  # a lost reply is often an answer by now
            known = await self.look_up(attempt)
            return attempt, outcome if isinstance(known, Absent) else known
        if not isinstance(outcome, Refused):
            return attempt, outcome
        if not nothing_under_way:  # this post was refused; an earlier one may still be processed
            return attempt, Unknown(reason=outcome.reason)
        elsewhere = await self.turn_to_next(attempt, outcome.reason)
        return (attempt, outcome) if elsewhere is None else await self._ask(elsewhere, fresh=False)
