"""How long a source is left alone, and that nobody waits for ever."""

from datetime import timedelta
from email.utils import format_datetime

import pytest

from chassis.ids import now
from chassis.sidecar import Answer, SidecarDown
from datasource.busy import LONGEST, TRIES, Busy, patiently, raise_if_busy, seconds
from datasource.domain import SourceFailed

OPEN = {"errorCode": "ERR_DIRECT_INVOKE", "message": "failed to invoke: circuit breaker is open"}


def test_a_retry_after_is_seconds_or_a_date_or_nothing():
    assert [seconds(text) for text in ("0", "7", "soon", "", "-1", "1.5")] == [0, 7, None, None, None, None]
    in_a_minute = format_datetime(now() + timedelta(seconds=60), usegmt=True)
    assert 57 < (seconds(in_a_minute) or 0) < 61


def test_429_503_and_an_open_breaker_are_busy_and_nothing_else_is():
    for answer, wait in (
        (Answer(status=429, data=None, retry_after="7"), 7),
        (Answer(status=503, data=None), None),
        (Answer(status=500, data=OPEN), None),
        (Answer(status=500, data=OPEN, seconds=5), None),  # it has opened between the sidecar's own retries
    ):
        with pytest.raises(Busy) as busy:
            raise_if_busy(answer)
        assert busy.value.wait == wait
    unreachable = {"errorCode": "ERR_DIRECT_INVOKE", "message": "connection refused"}
    for answer in (Answer(status=200, data={}), Answer(status=500, data=None), Answer(status=503, data=unreachable)):
        raise_if_busy(answer)


class Source:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.waited: list[float] = []

    async def ask(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "there"

    async def sleep(self, wait: float) -> None:
        self.waited.append(wait)


async def test_its_own_word_is_heeded_up_to_a_minute_and_without_one_waits_double():
    source = Source(Busy(7), Busy(3600), Busy(-5), Busy(None), SidecarDown())

    assert await patiently(source.ask, sleep=source.sleep) == "there"

    assert source.waited[:3] == [7, LONGEST, 0]
    assert 16 <= source.waited[3] < 17
    assert 32 <= source.waited[4] < 33


async def test_a_source_that_is_never_free_fails():
    source = Source(*(Busy(None) for _ in range(TRIES)))

    with pytest.raises(SourceFailed, match="busy for too long"):
        await patiently(source.ask, sleep=source.sleep)

    assert len(source.waited) == TRIES
    assert max(source.waited) <= LONGEST
