"""Work beside requests: in the background, waited for at shutdown; and many items, of which each may fail alone."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import structlog

from chassis.db import DATABASE_DOWN
from chassis.problems import Unavailable

log = structlog.get_logger()

T = TypeVar("T")
R = TypeVar("R")


class Tasks:
    """Work that outlives the request which started it. A caller who hangs up cancels nothing here."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def drain(self, *, within: float) -> None:
        """Let everything end by itself; after `within` seconds the rest is cancelled (it is durable, or a loop)."""
        if self._running:
            await asyncio.wait(self._running, timeout=within)
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=1)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task.failed", task=task.get_name(), exc_info=error)


async def for_each(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], *, at_once: int, name: Callable[[T], str]
) -> list[R | None]:
    """`work` on every item, `at_once` at a time, and what it answered. Where it fails that is logged with the item's
    name, the answer is None, and the others are worked on all the same."""
    places = asyncio.Semaphore(at_once)

    async def alone(item: T) -> R | None:
        async with places:
            try:
                return await work(item)
            except (*DATABASE_DOWN, Unavailable) as down:
                log.warning("item.postponed", item=name(item), error=type(down).__name__)
            except Exception:
                log.exception("item.failed", item=name(item))
            return None

    return await asyncio.gather(*map(alone, items))
