"""The rules, without a database: when to post, what proves absence, and how much is how much."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from chassis.retry_delays import recheck_delay
from payment.currencies import exponent_of, in_major_units
from payment.domain import (
    CAPTURED,
    MOVES,
    AmountDoesNotFit,
    Refund,
    RefundStatus,
    Status,
    may_post,
    minor_units,
    proves_absence,
)

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def attempt(*, first: datetime | None = FIRST, until: datetime | None = FIRST):
    return Refund(
        id="r",
        tenant="default",
        key="k",
        payment_id="p",
        amount=900,
        status=RefundStatus.PROCESSING,
        transaction_id=None,
        reason=None,
        attempts=0,
        created_at=FIRST,
        first_posted_at=first,
        posted_until=until,
        processed_at=None,
        traceparent="",
    )


@pytest.mark.parametrize(
    ("after", "allowed"),
    [(timedelta(), True), (timedelta(hours=12) - SECOND, True), (timedelta(hours=12), False)],
)
def test_a_key_is_posted_again_for_twelve_hours(after, allowed):
    assert may_post(attempt(), at=FIRST + after) is allowed


def test_what_was_never_posted_may_be_posted_for_as_long_and_is_absent_for_sure():
    never = attempt(first=None, until=None)

    assert may_post(never, at=FIRST + timedelta(hours=12) - SECOND)
    assert not may_post(never, at=FIRST + timedelta(hours=12))
    assert proves_absence(never, at=FIRST + timedelta(days=9))


@pytest.mark.parametrize(
    ("after", "proof"),
    [
        (30 * SECOND, False),
        (31 * SECOND, True),
        (timedelta(hours=24) - SECOND, True),
        (timedelta(hours=24), False),
    ],
)
def test_an_unknown_key_is_proof_from_thirty_seconds_after_the_post_until_keys_are_forgotten(after, proof):
    assert proves_absence(attempt(), at=FIRST + after) is proof


def test_thirty_seconds_count_from_the_last_post_and_a_day_from_the_first():
    again = attempt(until=FIRST + timedelta(hours=11))

    assert not proves_absence(again, at=FIRST + timedelta(hours=11) + 30 * SECOND)
    assert proves_absence(again, at=FIRST + timedelta(hours=11) + 31 * SECOND)
    assert not proves_absence(again, at=FIRST + timedelta(hours=24))


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("900", "JPY", 900), ("9.00", "USD", 900), ("9", "USD", 900), ("0.01", "EUR", 1), ("1.234", "KWD", 1234)],
)
def test_an_amount_is_kept_in_its_currencys_minor_units(amount, currency, minor):
    assert minor_units(Decimal(amount), exponent_of(currency)) == minor


@pytest.mark.parametrize(("amount", "currency"), [("9.5", "JPY"), ("9.005", "USD"), ("1.2345", "KWD")])
def test_a_fraction_the_currency_does_not_have_is_refused_and_never_rounded(amount, currency):
    with pytest.raises(AmountDoesNotFit) as refusal:
        minor_units(Decimal(amount), exponent_of(currency))

    assert refusal.value.members["errors"][0]["pointer"] == "/amount"


def test_nothing_is_no_amount():
    with pytest.raises(AmountDoesNotFit):
        minor_units(Decimal("0.00"), 2)


@pytest.mark.parametrize("currency", ["QQQ", "XAU"])
def test_a_currency_that_cannot_be_paid_in_is_refused(currency):
    with pytest.raises(AmountDoesNotFit) as refusal:
        minor_units(Decimal(1), exponent_of(currency))

    assert refusal.value.members["errors"][0]["pointer"] == "/currency"


@pytest.mark.parametrize(
    ("minor", "currency", "shown"),
    [(900, "JPY", "900"), (900, "USD", "9.00"), (1, "USD", "0.01"), (1234, "KWD", "1.234")],
)
def test_an_amount_is_told_with_its_currencys_decimals(minor, currency, shown):
    assert str(in_major_units(minor, currency)) == shown


def test_a_final_charge_moves_only_by_refunds():
    for status, targets in MOVES.items():
        if status is not Status.PROCESSING:
            assert targets <= CAPTURED
            assert not targets or status in CAPTURED


def test_checks_follow_the_schedule_for_a_day_and_then_every_hour():
    delays = [recheck_delay(attempt) for attempt in range(400)]

    assert [delay.total_seconds() for delay in delays[:6]] == [2, 5, 10, 20, 30, 30]
    assert sorted(delays) == delays
    hourly = delays.index(timedelta(hours=1))
    assert timedelta(hours=23) < sum(delays[:hourly], timedelta()) < timedelta(hours=25)
