"""Refunds: reserved first, never more together than was captured, and owed until they are given."""

import asyncio
from datetime import timedelta

import pytest

from chassis.retry_delays import recheck_delay
from payment.domain import Approved, KeyMismatch, PaymentOfOtherTenant, RefundExceedsCaptured, Refused
from payment.tables import refunds
from stack.eventually import eventually


@pytest.fixture
async def paid(till) -> str:
    return (await till.pay()).payment_id


@pytest.fixture
def by_an_admin(till, paid):
    """Gives back through the API, minor units; None is all that is left."""

    async def give_back(amount, key="an admin's"):
        api = till.parts
        asked = {"key": key, "body_hash": key, "payment_id": paid, "amount": amount}
        refund, made = await api.refunds.get_or_reserve_once("default", **asked)
        return await api.refund_driver.drive(refund, fresh=made)

    return give_back


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


async def test_where_less_is_left_than_was_asked_for_what_is_left_is_given(till, provider, paid):
    await till.give_back(paid, "8.00", "first")

    rest = await till.give_back(paid, "1.01", "second")

    assert rest.status == "succeeded"
    assert provider.money["second"] == 100
    row = await till.charge_row()
    assert (row.status, row.refunded) == ("refunded", 900)


async def test_more_than_was_ever_captured_is_refused(till, provider, paid):
    with pytest.raises(RefundExceedsCaptured):
        await till.give_back(paid, "9.01")

    assert (await till.charge_row()).refunded == 0
    assert provider.posts == ["o-1:charge"]


async def test_concurrent_refunds_share_what_was_captured(till, provider, paid):
    async def all_are_through():
        answers = await asyncio.gather(*(till.give_back(paid, "4.00", f"refund-{number}") for number in range(5)))
        return {answer.status for answer in answers} == {"succeeded"}

    await eventually(all_are_through)  # some wait for others at first

    assert sorted(provider.money[key] for key in provider.refunds) == [100, 400, 400]
    assert (await till.charge_row()).refunded == 900


async def test_concurrent_calls_with_one_key_are_one_refund(till, provider, paid):
    answers = await asyncio.gather(*(till.give_back(paid, "4.00") for _ in range(5)))

    assert {answer.refund_id for answer in answers} == {answers[0].refund_id}
    assert provider.posts.count("o-1:refund") == 1
    assert (await till.charge_row()).refunded == 400


async def test_what_is_reserved_by_an_unknown_refund_is_not_given_twice(till, provider, paid):
    provider.next_posts.append("lost")
    provider.blind = True
    assert (await till.give_back(paid, "9.00")).status == "processing"

    assert (await till.give_back(paid, "0.01", "another")).status == "processing"

    assert (await till.charge_row()).status == "succeeded"
    assert [row.key for row in await till.refund_rows()] == ["o-1:refund"]
    assert "another" not in provider.posts


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

    again = await till.give_back(paid, "9.00", "first")

    assert (again.status, again.refund_id) == ("succeeded", (await till.refund_row("second")).id)
    assert (await till.refund_row("first")).status == "failed"
    assert provider.posts.count("first") == 1
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
    await second.age(timedelta(seconds=31) + recheck_delay(0))

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


async def test_what_an_admin_gave_back_is_not_given_again_and_the_answer_is_given_again(
    till, provider, paid, by_an_admin
):
    await by_an_admin(400)

    first = await till.give_back(paid, "9.00")
    again = await till.give_back(paid, "9.00")

    assert first.status == "succeeded"
    assert again == first
    assert (provider.money["o-1:refund"], provider.posts.count("o-1:refund")) == (500, 1)
    assert (await till.charge_row()).status == "refunded"
    for other in ("5.00", "4.00"):
        with pytest.raises(KeyMismatch):
            await till.give_back(paid, other)


async def test_where_an_admin_gave_back_everything_nothing_is_owed_and_nobody_is_asked(
    till, provider, paid, by_an_admin
):
    await by_an_admin(400)
    last = await by_an_admin(None, "the rest")

    answers = [await till.give_back(paid, "9.00") for _ in range(2)]

    assert [(one.success, one.status, one.refund_id) for one in answers] == [(True, "succeeded", last.id)] * 2
    assert "o-1:refund" not in provider.posts
    assert len(await till.refund_rows()) == 2


@pytest.mark.parametrize(
    ("part", "becomes", "left"),
    [
        (400, Approved(transaction_id="r-1"), 500),
        (400, Refused(reason="no"), 900),
        (None, Approved(transaction_id="r-1"), None),
        (None, Refused(reason="no"), 900),
    ],
)
async def test_while_an_admins_refund_is_unknown_order_waits_and_then_gets_the_rest(
    till, provider, paid, by_an_admin, *, part, becomes, left
):
    provider.next_posts.append("down")
    provider.blind = True
    unknown = await by_an_admin(part)
    for _ in range(2):
        waiting = await till.give_back(paid, "9.00")
        assert (waiting.success, waiting.status, waiting.refund_id) == (False, "processing", unknown.id)
    assert "o-1:refund" not in provider.posts
    await till.parts.refunds.settle(unknown, becomes)

    assert (await till.give_back(paid, "9.00")).status == "succeeded"

    assert provider.money.get("o-1:refund") == left
    row = await till.charge_row()
    assert (row.status, row.refunded) == ("refunded", 900)


async def test_a_rest_that_failed_is_begun_again_as_the_rest_that_it_was(till, provider, paid, by_an_admin):
    await by_an_admin(400)
    provider.next_posts.append("refuse")
    assert (await till.give_back(paid, "9.00")).status == "failed"
    assert (await till.charge_row()).refunded == 400

    assert (await till.give_back(paid, "9.00")).status == "succeeded"

    assert provider.money[f"{(await till.refund_row()).id}:2"] == 500
    assert (await till.charge_row()).refunded == 900


async def test_what_failed_is_begun_again_for_less_where_an_admin_has_given_a_part_since(
    till, provider, paid, by_an_admin
):
    provider.next_posts.append("refuse")
    await till.give_back(paid, "9.00")
    await by_an_admin(400)
    provider.next_posts.append("refuse")
    assert (await till.give_back(paid, "9.00")).status == "failed"
    assert (await till.charge_row()).refunded == 400

    answers = [await till.give_back(paid, "9.00") for _ in range(2)]

    assert [one.status for one in answers] == ["succeeded"] * 2
    refund = (await till.refund_row()).id
    keys = ["o-1:refund", f"{refund}:2", f"{refund}:3"]  # to its old key a provider gives its old answer
    assert [key for key in provider.posts if key in keys] == keys
    assert provider.money[keys[-1]] == 500
    row = await till.charge_row()
    assert (row.status, row.refunded) == ("refunded", 900)


@pytest.mark.parametrize("stale", [Approved(transaction_id="r-1"), Refused(reason="no")])
async def test_an_outcome_of_what_it_was_before_it_was_begun_again_for_less_settles_nothing(
    till, provider, paid, by_an_admin, stale
):
    provider.next_posts.append("down")
    provider.blind = True
    await till.give_back(paid, "9.00")
    before = await till.parts.refunds.attempts.get((await till.refund_row()).id)
    await till.parts.refunds.settle(before, Refused(reason="never processed"))
    await by_an_admin(400)
    provider.next_posts.append("down")
    assert (await till.give_back(paid, "9.00")).status == "processing"

    assert await till.parts.refunds.settle(before, stale) is None

    assert (await till.refund_row()).status == "processing"
    assert (await till.charge_row()).refunded == 900


async def test_killed_during_the_rest_it_is_given_once_and_told_again(opened, provider):
    first = await opened()
    paid = (await first.pay()).payment_id
    await first.give_back(paid, "4.00", "first")
    provider.may_answer.clear()
    calling = asyncio.create_task(first.give_back(paid, "9.00"))
    await eventually(lambda: "o-1:refund" in provider.refunds)
    await first.kill()
    calling.cancel()
    provider.may_answer.set()
    second = await opened()
    await second.age(timedelta(seconds=31) + recheck_delay(0))

    assert (await second.give_back(paid, "9.00")).status == "succeeded"

    assert (provider.money["o-1:refund"], provider.posts.count("o-1:refund")) == (500, 1)
    assert (await second.charge_row()).refunded == 900


async def test_a_refund_on_record_from_before_amounts_asked_for_were_kept_is_known_by_its_amount(till, paid, sql):
    first = await till.give_back(paid, "4.00")
    sql(refunds.update().values(asked=None))

    assert await till.give_back(paid, "4.00") == first
    with pytest.raises(KeyMismatch):
        await till.give_back(paid, "9.00")
