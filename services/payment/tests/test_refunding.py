"""Refunds: reserved first, never more together than was captured, and owed until they are given."""

import asyncio
from datetime import timedelta

import pytest

from chassis.schedule import recheck_delay
from chassis.testing import eventually
from payment.attempts import CLAIM
from payment.domain import KeyMismatch, PaymentOfOtherTenant, RefundExceedsCaptured


@pytest.fixture
async def paid(till) -> str:
    return (await till.pay()).payment_id


async def test_a_refund_is_given_once_and_its_answer_is_given_again(till, provider, paid):
    first = await till.give_back(paid, "9.00")
    again = await till.give_back(paid, "9.00")

    assert (first.success, first.status) == (True, "succeeded")
    assert again == first
    assert provider.posts == ["o-1:charge", "o-1:refund"]
    row = await till.charge_row()
    assert (row.status, row.refunded) == ("refunded", 900)


async def test_parts_add_up_to_the_whole(till, paid):
    await till.give_back(paid, "4.00", "first")
    assert (await till.charge_row()).status == "partially_refunded"
    await till.give_back(paid, "5.00", "second")

    assert (await till.charge_row()).status == "refunded"


async def test_a_refunded_charge_still_counts_as_charged(till, paid):
    await till.give_back(paid, "9.00")

    assert (await till.pay()).status == "succeeded"


async def test_together_they_never_exceed_what_was_captured(till, provider, paid):
    await till.give_back(paid, "8.00", "first")

    with pytest.raises(RefundExceedsCaptured):
        await till.give_back(paid, "1.01", "second")

    assert (await till.charge_row()).refunded == 800
    assert "second" not in provider.posts


async def test_concurrent_refunds_share_what_was_captured(till, provider, paid):
    calls = (till.give_back(paid, "4.00", f"refund-{number}") for number in range(5))
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(answer, RefundExceedsCaptured) for answer in answers) == 3
    assert len(provider.refunds) == 2
    assert (await till.charge_row()).refunded == 800


async def test_concurrent_calls_with_one_key_are_one_refund(till, provider, paid):
    answers = await asyncio.gather(*(till.give_back(paid, "4.00") for _ in range(5)))

    assert {answer.refund_id for answer in answers} == {answers[0].refund_id}
    assert provider.posts.count("o-1:refund") == 1
    assert (await till.charge_row()).refunded == 400


async def test_what_is_reserved_by_an_unknown_refund_is_not_given_twice(till, provider, paid):
    provider.next_posts.append("lost")
    provider.blind = True
    assert (await till.give_back(paid, "9.00")).status == "processing"

    with pytest.raises(RefundExceedsCaptured):
        await till.give_back(paid, "0.01", "another")

    assert (await till.charge_row()).status == "succeeded"


async def test_a_failed_refund_releases_its_reservation_and_may_be_begun_again(till, provider, paid):
    provider.next_posts.append("refuse")
    failed = await till.give_back(paid, "9.00")
    assert (failed.success, failed.status, failed.error_message) == (False, "failed", "refused by the provider (400)")
    assert (await till.charge_row()).refunded == 0

    again = await till.give_back(paid, "9.00")

    assert (again.status, again.refund_id, again.error_message) == ("succeeded", failed.refund_id, None)
    assert (await till.charge_row()).refunded == 900


async def test_a_failed_refund_is_not_begun_again_when_the_money_went_elsewhere(till, provider, paid):
    provider.next_posts.append("refuse")
    await till.give_back(paid, "9.00", "first")
    await till.give_back(paid, "9.00", "second")

    with pytest.raises(RefundExceedsCaptured):
        await till.give_back(paid, "9.00", "first")

    assert (await till.refund_row("first")).status == "failed"
    assert (await till.charge_row()).refunded == 900


async def test_an_unknown_refund_is_checked_on_the_schedule_and_settled_by_the_sweep(till, provider, paid):
    provider.next_posts.append("lost")
    provider.blind = True
    assert (await till.give_back(paid, "9.00")).status == "processing"
    row = await till.refund_row()
    assert row.attempts == 1
    provider.blind = False
    await till.make_due()
    await till.sweep()

    assert (await till.refund_row()).status == "succeeded"
    assert (await till.charge_row()).status == "refunded"
    assert provider.posts.count("o-1:refund") == 1


async def test_killed_during_a_refund_it_is_looked_up_and_given_once(opened, provider):
    first = await opened()
    paid = (await first.pay()).payment_id
    provider.may_answer.clear()
    calling = asyncio.create_task(first.give_back(paid, "9.00"))
    await eventually(lambda: provider.refunds)
    await first.kill()
    calling.cancel()
    second = await opened()
    await second.age(CLAIM + recheck_delay(0) + timedelta(seconds=1))

    await second.sweep()

    assert (await second.refund_row()).status == "succeeded"
    assert provider.posts.count("o-1:refund") == 1


async def test_what_was_not_captured_cannot_be_given_back(till, provider):
    provider.next_posts.append("decline")
    declined = await till.pay()

    with pytest.raises(RefundExceedsCaptured):
        await till.give_back(declined.payment_id, "9.00")


async def test_another_tenants_payment_is_not_ours_to_give_back(till, paid):
    with pytest.raises(PaymentOfOtherTenant):
        await till.give_back(paid, "9.00", tenant="other")


async def test_a_refunds_key_belongs_to_one_payment_and_amount(till, paid):
    await till.give_back(paid, "4.00")

    with pytest.raises(KeyMismatch):
        await till.give_back(paid, "4.01")
