"""What a process takes of memory while something goes on."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import psutil


@asynccontextmanager
async def watched(process: psutil.Process) -> AsyncGenerator[dict[str, float]]:
    """Its resident MB, `before_mb` and, when left, `peak_mb`."""
    before = peak = process.memory_info().rss
    found = {"before_mb": round(before / 1e6, 1)}

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    try:
        yield found
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        found["peak_mb"] = round(peak / 1e6, 1)
