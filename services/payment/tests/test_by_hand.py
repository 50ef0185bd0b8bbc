"""What nobody could learn for a day a person settles; before that, and once it is known, nobody does."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from chassis.ids import new_id, now
from payment.domain import Approved, Refused
from payment.tables import moves, payments, refunds

DAY = timedelta(hours=24, minutes=1)
SUCCEEDED = {"outcome": "succeeded", "transactionId": "t-9", "reason": "seen at the provider's desk"}


@pytest.fixture
async def unknown(desk, provider) -> str:
    provider.next_posts.append("down")
    provider.blind = True
    return (await desk.pay()).json()["paymentId"]


@pytest.fixture
def aged(sql):
    def age(table, by):
        then = now() - by
        sql(table.update().values(created_at=then, first_posted_at=then, posted_until=then, claimed_until=None))

    return age


def problem(answer):
    return answer.status_code, answer.json()["errorType"]


async def test_before_a_day_has_passed_it_would_be_a_guess(desk, unknown, aged):
    assert problem(await desk.ask("POST", f"payments/{unknown}/settle", SUCCEEDED)) == (409, "not-overdue")
    aged(payments, timedelta(hours=23, minutes=59))
    assert problem(await desk.ask("POST", f"payments/{unknown}/settle", SUCCEEDED)) == (409, "not-overdue")


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        ("succeeded", "payment.captured.v1"),
        ("declined", "payment.declined.v1"),
        ("failed", "payment.declined.v1"),
    ],
)
async def test_after_a_day_it_is_recorded_with_who_and_why_and_is_final(desk, unknown, aged, sql, outcome, event):  # noqa: PLR0917
    aged(payments, DAY)
    body = SUCCEEDED | {"outcome": outcome}
    settled = await desk.ask("POST", f"payments/{unknown}/settle", body, sub="ada")

    assert (settled.status_code, settled.json()["status"]) == (200, outcome)
    (move,) = sql(sa.select(moves))
    assert (move.actor, move.reason) == ("person ada", SUCCEEDED["reason"])
    assert move.reference == ("t-9" if outcome == "succeeded" else None)
    (told,) = (await desk.ask("GET", f"payments/{unknown}/moves")).json()["items"]
    assert (told["actor"], told["toStatus"]) == ("person ada", outcome)
    assert problem(await desk.ask("POST", f"payments/{unknown}/settle", body)) == (409, "not-overdue")
    assert (await desk.pay()).json()["status"] == outcome
    assert sql(sa.text("SELECT type FROM outbox")) == [(event,)]


async def test_money_that_moved_has_a_reference_and_everything_a_reason(desk, unknown, aged):
    aged(payments, DAY)
    path = f"payments/{unknown}/settle"
    for wrong, pointer in (
        ({"transactionId": None}, "/transactionId"),
        ({"transactionId": "two words"}, "/transactionId"),
        ({"reason": ""}, "/reason"),
        ({"reason": "two\nlines"}, "/reason"),
        ({"outcome": "refunded"}, "/outcome"),
    ):
        answer = await desk.ask("POST", path, SUCCEEDED | wrong)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_it_is_an_administrators_of_the_tenant(desk, unknown, aged):
    aged(payments, DAY)
    path = f"payments/{unknown}/settle"

    assert problem(await desk.ask("POST", path, SUCCEEDED, role="staff")) == (403, "role-missing")
    assert problem(await desk.ask("POST", path, SUCCEEDED, tenant="other")) == (403, "different-tenant")
    assert problem(await desk.ask("POST", f"payments/{new_id()}/settle", SUCCEEDED)) == (404, "payment-not-found")
    assert problem(await desk.ask("POST", f"refunds/{new_id()}/settle", SUCCEEDED)) == (404, "refund-not-found")
    assert problem(await desk.ask("POST", "refunds/r/settle", SUCCEEDED)) == (404, "refund-not-found")


async def test_a_refund_is_settled_likewise(desk, provider, aged, sql):
    paid = (await desk.pay()).json()["paymentId"]
    provider.next_posts.append("down")
    provider.blind = True
    given = (await desk.give_back(paid, {"amount": "4.00"})).json()["id"]
    assert problem(await desk.ask("POST", f"refunds/{given}/settle", SUCCEEDED)) == (409, "not-overdue")
    aged(refunds, DAY)
    settled = await desk.ask("POST", f"refunds/{given}/settle", SUCCEEDED, sub="ada")

    assert (settled.status_code, settled.json()["status"]) == (200, "succeeded")
    assert {move.actor for move in sql(sa.select(moves).where(moves.c.refund_id == given))} == {"person ada"}
    assert (await desk.ask("GET", f"payments/{paid}")).json()["status"] == "partially_refunded"


async def test_a_refund_begun_again_is_the_providers_again_for_a_day(till, provider, issuer, running):
    """It failed long ago and is asked for anew: nobody may call it failed while the provider is at it."""
    paid = (await till.pay()).payment_id
    provider.next_posts.append("refuse")
    await till.give_back(paid, "9.00")
    await till.age(timedelta(days=3))
    provider.next_posts.append("down")
    provider.blind = True
    assert (await till.give_back(paid, "9.00")).status == "processing"
    assert await till.parts.refunds.attempts.overdue() == 0
    given = (await till.refund_row()).id
    await till.kill()

    async with running(by_name={"a": provider}) as client:
        body = {"outcome": "failed", "reason": "it took too long"}
        answer = await client.post(f"/api/v1/refunds/{given}/settle", json=body, headers=issuer.bearer("admin"))
    assert problem(answer) == (409, "not-overdue")


async def test_the_providers_late_answer_changes_nothing_and_is_an_alert(till, provider, capture):
    provider.next_posts.append("late")
    await till.pay()
    await till.age(DAY)
    charges = till.parts.charges
    stale = await charges.attempts.get((await till.charge_row()).id)
    await charges.settle(stale, Refused(reason="not there"), actor="person ada", why="not there")
    provider.catch_up()
    with capture() as logs:
        await till.make_due()
        await till.sweep()
        await charges.settle(stale, Approved(transaction_id="tx-o-1:charge"))

    assert (await till.charge_row()).status == "failed"
    assert (len(await till.moves()), len(await till.events())) == (1, 1)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["charge.contradicted"]


async def test_the_sweep_alerts_of_what_has_been_unknown_for_a_day_and_asks_on(till, provider, capture):
    provider.next_posts.append("down")
    await till.pay()
    await till.age(DAY)
    await till.make_due()
    with capture() as logs:
        await till.sweep()

    (alert,) = [line for line in logs if line["log_level"] == "error"]
    assert (alert["event"], alert["kind"], alert["count"]) == ("outcome.unknown_for_a_day", "charge", 1)
    assert (await till.charge_row()).next_check_at > now()
