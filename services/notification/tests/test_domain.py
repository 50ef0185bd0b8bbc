from datetime import UTC, datetime, timedelta

from notification.domain import MOVES, Delivered, Postponed, Refused, Status, before, retry_at, status_after

BEGAN = datetime(2025, 1, 1, tzinfo=UTC)


def test_final_statuses_stay():
    assert {status for status, targets in MOVES.items() if not targets} == {
        Status.SENT,
        Status.FAILED,
        Status.SUPERSEDED,
    }


def test_only_an_attempt_can_fail():
    assert before(Status.FAILED) == [Status.SENDING]


def test_retries_begin_soon_and_end_after_a_day():
    waits = [retry_at(attempts=attempt, created_at=BEGAN, at=BEGAN) for attempt in range(1, 7)]
    assert [int((wait - BEGAN).total_seconds()) for wait in waits if wait] == [2, 5, 10, 20, 30, 30]
    assert retry_at(attempts=300, created_at=BEGAN, at=BEGAN + timedelta(hours=24)) is None


def test_an_attempt_ends_in_one_of_three_ways():
    assert status_after(Delivered(), retry=None) is Status.SENT
    assert status_after(Refused("smtp 550"), retry=BEGAN) is Status.FAILED
    assert status_after(Postponed("smtp 451"), retry=BEGAN) is Status.QUEUED
    assert status_after(Postponed("smtp 451"), retry=None) is Status.FAILED
