"""Another provider: only where the first has certainly done nothing and never will, and never two at once."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from chassis.sidecar import Answer, SidecarDown
from payment.domain import Approved, Declined, Refused, Status
from payment.providers import providers
from payment.tables import payments
from stack.eventually import eventually

EXPIRED = timedelta(seconds=31)  # longer than anybody's claim
PROVEN = timedelta(seconds=31)
CHARGE_A, LOOKUP_A = "payment-a/api/v1/payment", "payment-a-lookup/api/v1/payment"
CHARGE_B, LOOKUP_B = "payment-b/api/payments", "payment-b-lookup/api/payments"


WITH_B = ({"weights": {"a": 1, "b": 0}},)


@pytest.fixture
async def till(open_both):
    return await open_both()


async def check(till, *, after: timedelta = timedelta()) -> None:
    """The next check, that much later."""
    await till.age(after)
    await till.make_due()
    await till.sweep()


async def test_refused_by_the_first_it_is_charged_at_the_other_under_the_same_key(till, a, b):
    a.next_posts.append("refuse")

    answer = await till.pay()

    assert (answer.status, answer.transaction_id) == ("succeeded", "tx-b-o-1:charge")
    assert (a.captured, b.captured) == ([], ["o-1:charge"])
    assert b.tokens == ["tok_ok"]
    row = await till.charge_row()
    assert (row.provider, row.others, row.card_token, row.version) == ("b", "", None, 3)
    turned, captured = await till.moves()
    assert (turned.from_status, turned.to_status, turned.actor) == ("processing", "processing", "provider a")
    assert turned.reason == "turned to provider b: refused by the provider (400)"
    assert (captured.to_status, captured.actor, captured.reference) == ("succeeded", "provider b", "tx-b-o-1:charge")
    ((event, data),) = await till.events()
    assert (event.type, data["provider"], data["version"]) == ("payment.captured.v1", "b", 3)


async def test_its_refund_goes_back_through_the_provider_that_charged(till, a, b):
    a.next_posts.append("refuse")
    paid = await till.pay()

    assert (await till.give_back(paid.payment_id, "9.00")).status == "succeeded"
    assert (list(a.refunds), list(b.refunds)) == ([], ["o-1:refund"])


async def test_a_refund_that_is_refused_goes_nowhere_else(till, a, b):
    paid = await till.pay()
    a.next_posts.append("refuse")

    assert (await till.give_back(paid.payment_id, "9.00")).status == "failed"
    assert b.posts == []


async def test_refused_by_all_it_has_failed_once(till, a, b):
    a.next_posts.append("refuse")
    b.next_posts.append("refuse")

    assert (await till.pay()).status == "failed"
    assert [move.to_status for move in await till.moves()] == ["processing", "failed"]
    assert [event.type for event, _ in await till.events()] == ["payment.declined.v1"]


async def test_a_decline_is_the_customers_banks_word_and_nobody_else_is_asked(till, a, b):
    a.next_posts.append("decline")

    assert (await till.pay()).status == "declined"
    assert b.posts == b.lookups == []


async def test_an_unknown_outcome_stays_until_absence_is_proven_and_only_then_turns(till, a, b):
    a.next_posts.extend(["down"] * 4)
    await till.pay()
    for seconds in (2, 5, 29):
        await check(till, after=timedelta(seconds=seconds))
        assert b.posts == b.lookups == []
    await check(till, after=PROVEN)

    assert (await till.charge_row()).status == "succeeded"
    assert (a.captured, b.captured) == ([], ["o-1:charge"])


async def test_thirty_seconds_count_from_the_last_post_and_not_from_the_first(till, a, b):
    """What was posted 20 s ago may still be processed, however long ago the first post was."""
    a.next_posts.extend(["down", "late"])
    await till.pay()
    await check(till, after=timedelta(seconds=20))
    await check(till, after=timedelta(seconds=20))
    assert a.posts == ["o-1:charge"] * 3
    assert b.posts == []
    a.catch_up()

    assert (await till.pay()).status == "succeeded"
    assert (a.captured, b.captured) == (["o-1:charge"], [])


async def test_a_repetition_that_is_refused_proves_nothing_about_the_post_before_it(till, a, b):
    """The key was rotated meanwhile, say. The first post may be processed for another half minute."""
    a.next_posts.extend(["late", "refuse"])
    await till.pay()
    await check(till, after=timedelta(seconds=5))
    assert ((await till.charge_row()).status, b.posts) == ("processing", [])
    a.catch_up()
    await check(till, after=timedelta(seconds=5))

    assert (await till.charge_row()).provider == "a"
    assert (a.captured, b.captured) == (["o-1:charge"], [])


async def test_while_look_ups_have_no_answer_nothing_turns_however_long(till, a, b):
    a.next_posts.append("down")
    a.blind = True
    await till.pay()
    for hours in (1, 5, 5):
        await check(till, after=timedelta(hours=hours))

    assert ((await till.charge_row()).status, b.posts, a.posts) == ("processing", [], ["o-1:charge"])


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Answer(status=500, data={"errorCode": "ERR_DIRECT_INVOKE", "message": "circuit breaker is open"})),
        pytest.param(Answer(status=403, data={"errorCode": "ERR_DIRECT_INVOKE", "message": "denied"})),
        pytest.param(Answer(status=404, data={"errorCode": "ERR_DIRECT_INVOKE", "message": "no such endpoint"})),
        pytest.param(None, id="no sidecar"),
    ],
)
async def test_no_error_of_the_sidecars_turns_to_another(opened, sidecar, broken):
    def answer(_body):
        if broken is None:
            raise SidecarDown
        return broken

    sidecar.answers = {CHARGE_A: answer, LOOKUP_A: answer}
    till = await opened(by_name=providers(sidecar, {"payment-b-key": "k"}), routes=WITH_B)
    assert (await till.pay()).status == "processing"
    await check(till, after=timedelta(minutes=10))

    assert (await till.charge_row()).provider == "a"
    assert not [at for at, _ in sidecar.invoked if at.startswith("payment-b")]


async def test_through_the_wire_a_refusal_by_a_is_charged_at_b(opened, sidecar):
    """B's errors have an `errorCode` of their own, which is no word of the sidecar's."""
    sidecar.answers = {
        CHARGE_A: Answer(status=422, data={"error": "unsupported"}),
        LOOKUP_B: Answer(status=404, data={"errorCode": "not_found", "errorMessage": "unknown key", "field": None}),
        CHARGE_B: Answer(status=200, data={"success": True, "transactionId": "t-b"}),
    }
    till = await opened(by_name=providers(sidecar, {"payment-b-key": "k"}), routes=WITH_B)

    assert (await till.pay()).transaction_id == "t-b"


@pytest.mark.parametrize("how", ["refused", "absent"])
async def test_what_was_given_up_is_charged_nowhere(till, a, b, how):
    a.next_posts.append("down")
    await till.pay()
    assert (await till.settle()).status == "processing"
    if how == "refused":
        a.next_posts.append("refuse")
    await check(till, after=PROVEN)

    assert (await till.charge_row()).status == "failed"
    assert (a.posts, b.posts) == (["o-1:charge"], [])


async def test_given_up_while_the_first_is_refusing_it_is_not_taken_elsewhere(till, a, b):
    a.may_begin.clear()
    a.next_posts.append("refuse")
    paying = asyncio.create_task(till.pay())
    await eventually(lambda: a.posts, every=0.01)
    settling = asyncio.create_task(till.settle())

    async def given_up():
        return (await till.charge_row()).given_up

    await eventually(given_up, every=0.01)
    a.may_begin.set()

    assert {(await paying).status, (await settling).status} == {"failed"}
    assert b.posts == []


async def test_given_up_between_look_up_and_post_it_is_not_posted(till, a, b):
    a.next_posts.append("down")
    await till.pay()
    await till.age(timedelta(seconds=5))
    row = await till.charge_row()
    asking = a.look_up_charge

    async def look_up(charge):
        await till.parts.db.write(lambda conn: conn.execute(row_given_up(row.id)))
        return await asking(charge)

    till.parts.charge_driver.look_up = look_up
    await check(till)

    assert (a.posts, b.posts) == (["o-1:charge"], [])


def row_given_up(row_id):
    return sa.update(payments).where(payments.c.id == row_id).values(given_up=True)


async def test_killed_between_turning_and_posting_it_goes_on_at_the_other(open_both, a, b):
    first = await open_both()
    a.next_posts.append("refuse")
    b.may_begin.clear()
    paying = asyncio.create_task(first.pay())
    await eventually(lambda: b.posts, every=0.01)
    await first.kill()
    paying.cancel()
    b.may_begin.set()
    second = await open_both()
    await second.age(EXPIRED)

    assert (await second.pay()).status == "succeeded"
    assert (a.posts, a.captured, b.captured) == (["o-1:charge"], [], ["o-1:charge"])


async def test_killed_after_the_other_has_charged_it_is_found_there(open_both, a, b):
    first = await open_both()
    a.next_posts.append("refuse")
    b.may_answer.clear()
    paying = asyncio.create_task(first.pay())
    await eventually(lambda: b.captured, every=0.01)
    await first.kill()
    paying.cancel()
    second = await open_both()
    await second.age(EXPIRED)

    assert (await second.pay()).transaction_id == "tx-b-o-1:charge"
    assert b.posts == ["o-1:charge"]


async def test_two_replicas_turn_once(till, a):
    a.next_posts.append("down")
    await till.pay()
    await till.age(PROVEN)
    charge = await till.parts.charges.attempts.get((await till.charge_row()).id)

    turned = await asyncio.gather(*(till.parts.charges.turn_to_next(charge, "absent") for _ in range(5)))

    assert sum(one is not None for one in turned) == 1
    row = await till.charge_row()
    assert (row.provider, row.others, len(await till.moves())) == ("b", "", 1)


async def test_a_replica_that_was_held_up_neither_posts_nor_settles_what_another_turned(till, a, b):
    """It had looked up, and then stood still for longer than its claim; the other has charged at B meanwhile."""
    a.next_posts.append("down")
    await till.pay()
    await till.age(PROVEN)
    held_up, go_on = asyncio.Event(), asyncio.Event()

    async def slow_look_up(charge):
        found = await a.look_up_charge(charge)
        held_up.set()
        await go_on.wait()
        return found

    row = await till.charge_row()
    slow = replace(till.parts.charge_driver, look_up=slow_look_up)
    stalled = asyncio.create_task(slow.drive(await slow.attempts.get(row.id), fresh=False))
    await held_up.wait()
    await till.age(EXPIRED)
    await check(till)
    assert b.captured == ["o-1:charge"]
    go_on.set()
    await stalled

    assert a.posts == ["o-1:charge"]
    row = await till.charge_row()
    assert (row.status, row.provider, row.transaction_id) == ("succeeded", "b", "tx-b-o-1:charge")


@pytest.mark.parametrize("answer", [Refused(reason="no"), Declined(reason="no"), Approved(transaction_id="t")])
async def test_a_provider_that_was_left_has_no_more_say(till, a, b, answer, capture):
    """Its answer comes while the other is still at it: recorded, it would hide what the other does."""
    a.next_posts.append("refuse")
    b.next_posts.append("lost")
    b.blind = True
    charges = till.parts.charges
    await till.pay()
    at_b = await charges.attempts.get((await till.charge_row()).id)
    with capture() as logs:
        assert await charges.settle(at_b.model_copy(update={"provider": "a"}), answer) is None
    b.blind = False
    await check(till)

    row = await till.charge_row()
    assert (row.status, row.provider) == (Status.SUCCEEDED, "b")
    alerts = [line["event"] for line in logs if line["log_level"] == "error"]
    assert alerts == (["charge.contradicted"] if isinstance(answer, Approved) else [])


async def test_who_was_held_up_before_the_first_post_does_not_post_after_its_claim(till, a):
    a.next_posts.append("down")
    paid = await till.pay()
    await till.age(EXPIRED)
    stale = await till.parts.charges.attempts.get(paid.payment_id)

    driver = replace(till.parts.charge_driver)
    assert (await driver.drive(stale, fresh=True)).status is Status.PROCESSING
    assert a.posts == ["o-1:charge"]


async def test_the_first_that_charged_after_all_is_an_alert_and_no_second_booking(till, a, tell, capture):
    a.next_posts.append("down")
    await till.pay()
    await check(till, after=PROVEN)
    before = (await till.charge_row(), await till.moves(), len(await till.events()))
    for kind, alerts in (("charge.approved", ["charge.at_two_providers"]), ("charge.declined", [])):
        with capture() as logs:
            await tell(till, "a", kind, key="o-1:charge")
        assert [line["event"] for line in logs if line["log_level"] == "error"] == alerts

    assert (await till.charge_row(), await till.moves(), len(await till.events())) == before


async def test_turned_after_half_a_day_it_is_not_charged_at_all(till, a, b):
    a.next_posts.append("down")
    a.blind = True
    await till.pay()
    await till.age(timedelta(hours=12))
    a.blind = False

    assert (await till.pay()).status == "failed"
    assert b.posts == []
