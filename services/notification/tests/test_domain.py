from datetime import UTC, datetime, timedelta

import pytest

from notification.domain import FINAL, MOVES, Status, before
from notification.outcomes import Delivered, Down, Postponed, Refused, Suppressed, retry_at, status_after

BEGAN = datetime(2025, 1, 1, tzinfo=UTC)


def test_final_statuses_stay():
    assert {status for status, targets in MOVES.items() if not targets} == FINAL
    assert {Status.DELIVERED, Status.BOUNCED, Status.FAILED, Status.SUPPRESSED} == FINAL


def test_every_status_knows_where_it_may_go():
    assert set(MOVES) == set(Status)


def test_an_attempt_a_receipt_or_the_end_of_its_digest_fails_a_message():
    assert before(Status.FAILED) == before(Status.BOUNCED) == [Status.QUEUED, Status.SENDING, Status.SENT]


def test_only_a_receipt_says_that_it_was_delivered():
    assert before(Status.DELIVERED) == [Status.SENT]


def test_what_was_sent_is_not_sent_again():
    assert not MOVES[Status.SENT] & {Status.QUEUED, Status.SENDING, Status.SUPPRESSED}


def test_an_attempt_that_ends_after_its_lease_may_still_have_sent():
    assert before(Status.SENT) == [Status.QUEUED, Status.SENDING]


def test_retries_begin_soon_and_end_after_a_day():
    waits = [retry_at(attempts=attempt, began=BEGAN, at=BEGAN) for attempt in range(1, 7)]
    assert [int((wait - BEGAN).total_seconds()) for wait in waits if wait] == [2, 5, 10, 20, 30, 30]
    assert retry_at(attempts=300, began=BEGAN, at=BEGAN + timedelta(hours=24)) is None


@pytest.mark.parametrize(
    ("outcome", "retry", "status"),
    [
        (Delivered(), None, Status.SENT),
        (Refused("smtp 550"), BEGAN, Status.FAILED),
        (Refused("smtp 550 5.1.1", bounced=True), BEGAN, Status.BOUNCED),
        (Postponed("smtp 451"), BEGAN, Status.QUEUED),
        (Postponed("smtp 451"), None, Status.FAILED),
        (Down("nobody there"), BEGAN, Status.QUEUED),
        (Down("nobody there"), None, Status.FAILED),
        (Suppressed("used up"), BEGAN, Status.SUPPRESSED),
    ],
)
def test_how_an_attempt_ended_says_what_becomes_of_the_message(outcome, retry, status):
    assert status_after(outcome, retry=retry) is status
