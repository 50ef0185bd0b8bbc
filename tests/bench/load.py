"""Who calls, how many at once, and how long each call took."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

Call = Callable[[], Awaitable[None]]


async def alone(call: Call, count: int) -> dict[str, float]:
    """One after another."""
    return {"count": count} | percentiles([await _timed(call) for _ in range(count)])


async def many(call: Call, clients: int, seconds: float) -> dict[str, float]:
    """Closed loop: each client waits for its answer before it asks again."""
    took: list[float] = []
    ends = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < ends:
            took.append(await _timed(call))

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return {"count": len(took), "per_s": round(len(took) / (time.perf_counter() - began), 1)} | percentiles(took)


async def at_rate(call: Call, rate: float, seconds: float) -> dict[str, float]:
    """Open loop: by the clock, whoever still waits. The time is from when a call was meant to begin."""
    took: list[float] = []
    began = time.perf_counter() + 0.1

    async def one(due: float) -> None:
        await call()
        took.append((time.perf_counter() - due) * 1000)

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))
    return {"count": len(took), "asked_per_s": round(rate, 1)} | percentiles(took)


def percentiles(took: Sequence[float], *, digits: int = 1) -> dict[str, float]:
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49], digits), "p99_ms": round(cuts[98], digits)}


async def _timed(call: Call) -> float:
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1000
