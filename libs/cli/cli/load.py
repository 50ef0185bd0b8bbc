"""`brewline load`: so many orders a second for so long, whether or not the last ones are answered."""

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from cli import calls, sample, screen
from cli.signals import Stopped

ORDER = "order-service"


@dataclass(kw_only=True)
class Measured:
    """`took` are seconds, of answers alone; `ended` counts by status or error."""

    took: list[float] = field(default_factory=list[float])
    ended: Counter[str] = field(default_factory=Counter[str])

    def summary(self, elapsed: float) -> dict[str, Any]:
        asked = sum(self.ended.values())
        return {
            "orders": asked,
            "seconds": round(elapsed, 1),
            "per_second": round(asked / elapsed, 1),
            **{f"p{share}_ms": self.percentile(share) for share in (50, 90, 99, 100)},
            **self.ended,
        }

    def percentile(self, share: int) -> float | None:
        if not self.took:
            return None
        ordered = sorted(self.took)
        return round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)] * 1000, 1)


def load(*, rate: float, seconds: float, card: str, as_json: bool) -> int:
    """1 when an order got no answer, or a 5xx."""
    header = calls.bearer("user")
    measured = Measured()
    began = time.monotonic()
    with contextlib.suppress(Stopped):  # what was measured so far is told
        asyncio.run(place_all(measured, header, rate=rate, seconds=seconds, card=card))
    screen.rows([measured.summary(time.monotonic() - began)], as_json=as_json)
    return 1 if any(word.startswith(("5", "no answer")) for word in measured.ended) else 0


async def place_all(measured: Measured, header: dict[str, str], *, rate: float, seconds: float, card: str) -> None:
    limits = httpx.Limits(max_connections=200)
    async with (
        httpx.AsyncClient(
            base_url=calls.url(ORDER), headers=header, timeout=30, trust_env=False, limits=limits
        ) as http,
        asyncio.TaskGroup() as orders,
    ):
        began = time.monotonic()
        for number in range(max(1, round(rate * seconds))):
            await asyncio.sleep(began + number / rate - time.monotonic())
            orders.create_task(place(http, measured, card))


async def place(http: httpx.AsyncClient, measured: Measured, card: str) -> None:
    began = time.monotonic()
    try:
        answer = await http.post(
            "/api/v1/orders", json=sample.order(card=card), headers={"Idempotency-Key": uuid4().hex}
        )
    except httpx.TransportError as error:
        measured.ended[f"no answer: {type(error).__name__}"] += 1
        return
    measured.took.append(time.monotonic() - began)
    measured.ended[word_of(answer)] += 1


def word_of(answer: httpx.Response) -> str:
    body = calls.problem_of(answer)
    word = body.get("errorType") if answer.is_error else body.get("status")
    return f"{answer.status_code} {word}"
