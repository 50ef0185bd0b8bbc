"""Get-or-drive: a charge is made once per key, whatever dies, and an unknown outcome is never called a failure."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from chassis.ids import now
from chassis.retry_delays import recheck_delay
from chassis.sidecar import Answer, SidecarDown
from payment.attempts import Attempts
from payment.domain import Charge, KeyMismatch, Status
from payment.providers import providers
from payment.tables import payments
from stack.eventually import eventually

EXPIRED = timedelta(seconds=31)  # longer than anybody's claim
CHARGE, LOOKUP = "payment-a/api/v1/payment", "payment-a-lookup/api/v1/payment"


async def test_a_charge_is_made_once_and_its_answer_is_given_again(till, provider):
    first = await till.pay()
    again = await till.pay()

    assert (first.success, first.status, first.transaction_id) == (True, "succeeded", "tx-o-1:charge")
    assert again == first
    assert provider.posts == ["o-1:charge"]
    assert provider.lookups == []


async def test_a_declined_charge_stays_declined(till, provider):
    provider.next_posts.append("decline")

    first = await till.pay()
    again = await till.pay()

    assert (first.success, first.status, first.error_message) == (False, "declined", "insufficient_funds")
    assert again == first
    assert provider.posts == ["o-1:charge"]


async def test_a_definite_refusal_is_failed(till, provider):
    provider.next_posts.append("refuse")

    answer = await till.pay()

    assert (answer.success, answer.status, answer.transaction_id) == (False, "failed", None)


async def test_concurrent_calls_join_one_charge(till, provider):
    provider.may_answer.clear()
    calls = [asyncio.create_task(till.pay()) for _ in range(5)]
    await eventually(lambda: provider.posts)
    provider.may_answer.set()

    answers = await asyncio.gather(*calls)

    assert {answer.payment_id for answer in answers} == {answers[0].payment_id}
    assert {answer.status for answer in answers} == {"succeeded"}
    assert provider.posts == ["o-1:charge"]


async def test_a_replica_without_the_claim_waits_for_the_one_that_has_it(till, provider):
    provider.may_answer.clear()
    first = asyncio.create_task(till.pay())
    await eventually(lambda: provider.posts)
    row = await till.charge_row()
    other = replace(till.parts.charge_driver)
    second = asyncio.create_task(other.drive(await other.attempts.get(row.id), fresh=False))
    provider.may_answer.set()

    assert (await first).status == "succeeded"
    assert (await second).status is Status.SUCCEEDED
    assert provider.posts == ["o-1:charge"]
    assert provider.lookups == []


async def test_whoever_made_the_row_drives_it_though_another_call_found_it_first(till, provider):
    provider.may_begin.clear()
    paying = asyncio.create_task(till.pay())
    await eventually(lambda: provider.posts)
    driver = replace(till.parts.charge_driver)  # nobody is driving here yet
    claimed = await driver.attempts.get((await till.charge_row()).id)
    watcher = asyncio.create_task(driver.drive(claimed, fresh=False))
    await asyncio.sleep(0)
    maker = asyncio.create_task(driver.drive(claimed, fresh=True))
    await eventually(lambda: len(provider.posts) == 2)
    provider.may_begin.set()

    assert {(await watcher).status, (await maker).status} == {Status.SUCCEEDED}
    assert (await paying).status == "succeeded"
    assert provider.captured == ["o-1:charge"]


async def test_killed_between_the_row_and_the_post_it_is_looked_up_and_then_charged_once(opened, provider):
    provider.may_begin.clear()
    first = await opened()
    calling = asyncio.create_task(first.pay())
    await eventually(lambda: provider.posts)
    await first.kill()
    calling.cancel()
    assert provider.captured == []
    provider.may_begin.set()
    second = await opened()
    await second.age(EXPIRED)

    answer = await second.pay()

    assert answer.status == "succeeded"
    assert provider.lookups == ["o-1:charge"]
    assert provider.posts == ["o-1:charge", "o-1:charge"]
    assert provider.captured == ["o-1:charge"]


async def test_what_was_held_up_is_not_posted_while_its_call_could_outlast_the_claim_but_later(till, provider):
    """Else another replica might prove it absent there, and charge elsewhere, just before it arrives."""
    driver = till.parts.charge_driver
    driver.call = timedelta(seconds=30)  # as when all but nothing of its claim were gone
    assert (await till.pay()).status == "processing"
    assert provider.posts == []

    driver.call = timedelta(seconds=16)
    await till.age(EXPIRED)
    assert (await till.pay()).status == "succeeded"
    assert provider.posts == provider.captured == ["o-1:charge"]


async def test_killed_between_the_post_and_the_record_it_is_found_and_not_posted_again(opened, provider):
    provider.may_answer.clear()
    first = await opened()
    calling = asyncio.create_task(first.pay())
    await eventually(lambda: provider.captured)
    await first.kill()
    calling.cancel()
    second = await opened()
    await second.age(EXPIRED)

    answer = await second.pay()

    assert (answer.status, answer.transaction_id) == ("succeeded", "tx-o-1:charge")
    assert provider.posts == ["o-1:charge"]
    assert provider.captured == ["o-1:charge"]


async def test_after_a_crash_the_sweep_alone_finishes_the_charge(opened, provider):
    provider.may_answer.clear()
    first = await opened()
    calling = asyncio.create_task(first.pay())
    await eventually(lambda: provider.captured)
    await first.kill()
    calling.cancel()
    second = await opened()
    await second.parts.charges.attempts.release_claims()
    await second.make_due()

    await second.sweep()

    assert (await second.charge_row()).status == "succeeded"
    assert provider.posts == ["o-1:charge"]


async def test_a_lost_reply_is_looked_up_at_once(till, provider):
    provider.next_posts.append("lost")

    answer = await till.pay()

    assert answer.status == "succeeded"
    assert provider.posts == provider.lookups == ["o-1:charge"]


async def test_an_unknown_outcome_is_processing_until_the_sweep_settles_it(till, provider):
    provider.next_posts.append("lost")
    provider.blind = True

    answer = await till.pay()
    row = await till.charge_row()
    assert (answer.success, answer.status, answer.processed_at) == (False, "processing", None)
    assert row.next_check_at - now() < recheck_delay(0)
    provider.blind = False
    await till.make_due()
    await till.sweep()

    assert (await till.pay()).status == "succeeded"
    assert provider.posts == ["o-1:charge"]


async def test_checks_are_on_the_shared_schedule(till, provider):
    provider.blind = True
    provider.next_posts.append("down")
    await till.pay()

    for attempt in range(6):
        row = await till.charge_row()
        expected = recheck_delay(attempt)
        assert expected - timedelta(seconds=1) < row.next_check_at - now() <= expected
        assert (row.attempts, row.claimed_until) == (attempt + 1, None)
        await till.make_due()
        await till.sweep()


async def test_a_timer_drives_an_unknown_charge_on_without_anybody_asking(till, provider):
    class Impatient(Attempts[Charge]):
        async def still_unknown(self, attempt):
            await super().still_unknown(attempt)
            return timedelta(milliseconds=5)

    provider.next_posts.extend(["down", "down"])
    charge = await till.parts.charge_driver.attempts.get((await till.pay()).payment_id)
    attempts = Impatient(till.parts.db, payments, till.parts.charges.parse, claim=timedelta(seconds=30))
    driver = replace(till.parts.charge_driver, attempts=attempts)

    assert (await driver.drive(charge, fresh=False)).status is Status.PROCESSING
    await eventually(lambda: provider.captured)

    assert provider.posts == ["o-1:charge"] * 3


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Answer(status=500, data={"error": "oops"}), id="the provider's 500"),
        pytest.param(Answer(status=503, data=None), id="the provider's 503"),
        pytest.param(Answer(status=302, data=None), id="a redirect"),
        pytest.param(Answer(status=500, data={"errorCode": "ERR_DIRECT_INVOKE", "message": "time-out"}), id="time-out"),
        pytest.param(Answer(status=403, data={"errorCode": "ERR_DIRECT_INVOKE"}), id="the sidecar's own 4xx"),
        pytest.param(Answer(status=500, data={"errorCode": "ERR_CIRCUIT_BREAKER_OPEN"}), id="breaker open"),
        pytest.param(Answer(status=200, data=None), id="no JSON"),
        pytest.param(Answer(status=200, data={"status": "approved"}), id="approved without a transaction"),
        pytest.param(Answer(status=200, data=["approved"]), id="another shape"),
        pytest.param(Answer(status=200, data={"status": "pending", "transactionId": "t"}), id="another status"),
        *(pytest.param(Answer(status=status, data=None), id=str(status)) for status in (408, 409, 425, 429)),
        pytest.param(None, id="no sidecar"),
    ],
)
async def test_whatever_is_no_definite_answer_is_processing_and_later_settled(opened, sidecar, broken):
    def answer(_body):
        if broken is None:
            raise SidecarDown
        return broken

    absent = Answer(status=404, data={"error": "not_found"})
    sidecar.answers = {CHARGE: answer, LOOKUP: absent}
    till = await opened(by_name=providers(sidecar, {}))

    assert (await till.pay()).status == "processing"
    sidecar.answers = {LOOKUP: Answer(status=200, data={"status": "approved", "transactionId": "t-1"})}
    await till.make_due()
    await till.sweep()

    row = await till.charge_row()
    assert (row.status, row.transaction_id, row.next_check_at) == ("succeeded", "t-1", None)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 422])
async def test_the_providers_own_refusal_is_failed(opened, sidecar, status):
    sidecar.answers = {CHARGE: Answer(status=status, data={"error": "invalid_card"})}
    till = await opened(by_name=providers(sidecar, {}))

    assert (await till.pay()).status == "failed"
    assert len(sidecar.invoked) == 1


async def test_it_answers_in_time_and_goes_on_by_itself(opened, provider):
    provider.may_answer.clear()
    till = await opened(answer_seconds=0.05)

    assert (await till.pay()).status == "processing"
    provider.may_answer.set()

    async def settled():
        return (await till.charge_row()).status == "succeeded"

    await eventually(settled)
    assert provider.posts == ["o-1:charge"]


async def test_a_caller_who_hangs_up_stops_nothing(till, provider):
    provider.may_answer.clear()
    call = asyncio.create_task(till.pay())
    await eventually(lambda: provider.posts)
    call.cancel()
    provider.may_answer.set()

    assert (await till.pay()).status == "succeeded"
    assert provider.posts == ["o-1:charge"]


async def test_after_twelve_hours_it_is_not_posted_again_and_absence_is_final(till, provider):
    provider.next_posts.append("down")
    await till.pay()
    await till.age(timedelta(hours=12))

    answer = await till.pay()

    assert (answer.status, answer.error_message) == ("failed", "never processed")
    assert provider.posts == ["o-1:charge"]


async def test_after_a_day_absence_proves_nothing_and_asking_goes_on(till, provider):
    provider.next_posts.append("down")
    await till.pay()
    await till.age(timedelta(hours=24, minutes=1))

    assert (await till.pay()).status == "processing"
    assert await till.parts.charge_driver.attempts.overdue() == 1
    assert provider.posts == ["o-1:charge"]
    assert (await till.charge_row()).next_check_at is not None


async def test_settling_nothing_is_final_and_a_later_charge_gets_that(till, provider):
    settled = await till.settle()
    later = await till.pay()

    assert settled.status == "failed"
    assert later == settled
    assert provider.posts == provider.lookups == []


async def test_settling_finds_what_was_charged(till, provider):
    provider.next_posts.append("lost")
    provider.blind = True
    await till.pay()
    provider.blind = False

    assert (await till.settle()).status == "succeeded"
    assert provider.posts == ["o-1:charge"]


async def test_settling_too_early_knows_nothing_and_nobody_posts_from_then_on(till, provider):
    provider.next_posts.append("down")
    await till.pay()

    assert (await till.settle()).status == "processing"
    await till.make_due()
    await till.sweep()
    assert (await till.pay()).status == "processing"
    await till.age(timedelta(seconds=31))
    await till.make_due()
    await till.sweep()

    assert (await till.pay()).status == "failed"
    assert provider.posts == ["o-1:charge"]


async def test_a_key_belongs_to_one_order_amount_and_currency(till, provider):
    await till.pay()

    for other in ({"order_id": "o-2"}, {"amount": "9.01"}, {"currency": "EUR"}):
        with pytest.raises(KeyMismatch):
            await till.pay(**other)
    assert provider.posts == ["o-1:charge"]


async def test_settling_with_the_wrong_amount_gives_nothing_up(till, provider):
    provider.next_posts.append("down")
    await till.pay()

    with pytest.raises(KeyMismatch):
        await till.settle(amount="1.00")

    assert not (await till.charge_row()).given_up


async def test_tenants_do_not_share_keys(till):
    ours = await till.pay()
    theirs = await till.pay(tenant="other")

    assert ours.payment_id != theirs.payment_id


async def test_one_broken_row_stops_no_other(till, provider):
    provider.next_posts.extend(["down", "down"])
    await till.pay()
    await till.pay(key="o-2:charge", order_id="o-2")
    await till.make_due()
    healthy = till.parts.charge_driver.look_up

    async def look_up(charge):
        if charge.order_id == "o-1":
            raise RuntimeError
        return await healthy(charge)

    till.parts.charge_driver.look_up = look_up
    await till.sweep()

    assert (await till.charge_row("o-2:charge")).status == "succeeded"


async def test_a_pending_timer_does_not_hold_up_the_end_of_the_process(running, provider):
    provider.next_posts.append("down")
    provider.blind = True
    loop = asyncio.get_running_loop()
    async with running(by_name={"a": provider}) as client:
        body = {"key": "k", "orderId": "o", "amount": "1.00", "currency": "USD", "paymentMethod": "credit_card"}
        assert (await client.post("/process-payment", json=body)).json()["status"] == "processing"
        leaving = loop.time()

    assert loop.time() - leaving < 2


async def test_the_card_token_is_sealed_at_rest_and_erased_once_final(till, provider, bytes_on_disk):
    token = "tok_very_secret_4242"
    provider.next_posts.append("down")
    provider.blind = True
    await till.pay(card_token=token)
    sealed = (await till.charge_row()).card_token

    assert sealed
    assert token not in sealed
    assert token.encode() not in bytes_on_disk()
    provider.blind = False
    assert (await till.pay(card_token=token)).status == "succeeded"
    assert (await till.charge_row()).card_token is None
    assert provider.tokens == [token, token]  # the second post had it from its row


@pytest.mark.parametrize("fate", ["well", "decline", "refuse"])
async def test_every_final_outcome_erases_the_token(till, provider, fate):
    provider.next_posts.append(fate)

    await till.pay()

    assert (await till.charge_row()).card_token is None
