"""A source that has no time for us: the one thing that we wait for ourselves, since the retries that the sidecar makes
know no Retry-After. All others are the sidecar's (components/resiliency.yaml)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar

import structlog

from chassis.ids import now
from chassis.sidecar import Answer, SidecarDown
from datasource.domain import SourceFailed

log = structlog.get_logger()

T = TypeVar("T")

LONGEST = 60.0  # seconds, whatever the source says; a breaker is open for as long
TRIES = 10  # in a row: some six minutes where the source says nothing


class Busy(Exception):
    """`wait` is the source's own word in seconds, None where it has said nothing."""

    def __init__(self, wait: float | None = None) -> None:
        super().__init__(wait)
        self.wait = wait


def raise_if_busy(answer: Answer) -> None:
    """429 and 503 are the source's own; an open breaker the sidecar's word for it."""
    if answer.held_back:
        raise Busy
    if answer.status in {429, 503} and not answer.from_sidecar:
        raise Busy(seconds(answer.retry_after))


def seconds(retry_after: str) -> float | None:
    """Of a Retry-After (RFC 9110, 10.2.3), which is seconds or a date; None of what is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return (parsedate_to_datetime(retry_after) - now()).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return None


async def patiently(ask: Callable[[], Awaitable[T]], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> T:
    """What `ask` answers once the source has time. Raises SourceFailed when that takes too long."""
    for number in range(1, TRIES + 1):
        try:
            return await ask()
        except Busy as busy:
            wait = busy.wait
        except SidecarDown:
            wait = None
        chosen = _scheduled(number) if wait is None else min(max(wait, 0.0), LONGEST)
        log.info("source.busy", number=number, seconds=round(chosen, 1), asked_for=wait is not None)
        await sleep(chosen)
    raise SourceFailed("The source has been busy for too long.")


def _scheduled(number: int) -> float:
    """2, 4, 8, … seconds and up to one more: whoever was sent away together comes back apart."""
    return min(2.0**number + random.random(), LONGEST)  # noqa: S311  no secret
