"""What tests share: waiting for what comes later, and real sidecars (`stack.sidecars`)."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")


async def eventually(
    look: Callable[[], Awaitable[T | None] | T | None], *, within: float = 30.0, every: float = 0.05
) -> T:
    """Looks until it sees something true, and returns that.

    `look` may be async, and may assert: a failed assertion is "not yet". After `within` seconds the last one is raised.
    """
    deadline = time.monotonic() + within
    while True:
        failure: AssertionError | None = None
        seen: T | None = None
        try:
            answer = look()
            seen = cast("T", await answer if inspect.isawaitable(answer) else answer)
        except AssertionError as error:
            failure = error
        if failure is None and seen:
            return seen
        if time.monotonic() > deadline:
            raise failure or AssertionError(f"not within {within} s; last seen: {seen!r}")
        await asyncio.sleep(every)
