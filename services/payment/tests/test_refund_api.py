"""The refund API, with Stripe's published rules for idempotency keys (docs.stripe.com/api/idempotent_requests)."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from chassis.ids import new_id, now
from payment.domain import KeyInFlight, KeyMismatch, RefundExceedsCaptured
from payment.tables import refund_keys
from stack.eventually import eventually


@pytest.fixture
async def paid(desk) -> str:
    return (await desk.pay()).json()["paymentId"]


def problem(answer):
    return answer.status_code, answer.json()["errorType"]


async def test_a_refund_is_a_201_and_the_same_key_gives_it_again(desk, provider, paid):
    first = await desk.give_back(paid, {"amount": "4.50"})
    again = await desk.give_back(paid, {"amount": "4.50"})

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.json()["amount"] == {"amount": "4.50", "currency": "USD"}
    assert first.json()["status"] == "succeeded"
    assert first.headers["location"] == f"/api/v1/payments/{paid}/refunds"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert provider.posts == ["o-1:charge", first.json()["id"]]


@pytest.mark.parametrize(
    ("bodies", "left"),
    [
        ([{}], "9.00"),
        ([{"amount": None}], "9.00"),
        ([{"amount": "4.00"}, {}], "9.00"),
        ([{"amount": {"amount": "4.00", "currency": "USD"}}, {"amount": "0.5"}], "4.50"),
    ],
)
async def test_all_or_a_part_or_all_that_is_left(desk, paid, bodies, left):
    for index, body in enumerate(bodies):
        assert (await desk.give_back(paid, body, key=f"k-{index}")).status_code == 201

    payment = (await desk.ask("GET", f"payments/{paid}")).json()
    assert payment["refunded"]["amount"] == left
    assert payment["status"] == ("refunded" if left == "9.00" else "partially_refunded")


async def test_without_a_key_it_is_a_400(desk, provider, paid):
    for key in (None, ""):
        assert problem(await desk.give_back(paid, key=key)) == (400, "idempotency-key-missing")
    assert provider.posts == ["o-1:charge"]


async def test_a_key_has_255_characters_at_most(desk, paid):
    assert (await desk.give_back(paid, key="k" * 256)).status_code == 422
    assert (await desk.give_back(paid, key="k" * 255)).status_code == 201


async def test_a_key_used_for_something_else_is_refused(desk, paid):
    await desk.give_back(paid, {"amount": "1.00"})
    other = (await desk.pay(key="o-2:charge", orderId="o-2")).json()["paymentId"]

    assert problem(await desk.give_back(paid, {"amount": "1.01"})) == (422, "idempotency-mismatch")
    assert problem(await desk.give_back(other, {"amount": "1.00"})) == (422, "idempotency-mismatch")


async def test_a_refusal_while_executing_is_the_keys_answer_too(desk, paid):
    await desk.give_back(paid, {"amount": "8.00"}, key="first")
    refused = await desk.give_back(paid, {"amount": "2.00"}, key="second")
    assert problem(refused) == (409, "refund-exceeds-captured")
    again = await desk.give_back(paid, {"amount": "2.00"}, key="second")
    mismatch = await desk.give_back(paid, {"amount": "1.00"}, key="second")
    anew = await desk.give_back(paid, {"amount": "1.00"}, key="third")

    assert (problem(again), problem(mismatch)) == (problem(refused), (422, "idempotency-mismatch"))
    assert anew.status_code == 201


async def test_what_was_not_valid_or_not_allowed_is_not_kept(desk, paid):
    for bad in ({"amount": "9.001"}, {"amount": {"amount": "1.00", "currency": "EUR"}}, {"amount": 1}, b"{"):
        assert (await desk.give_back(paid, bad)).status_code in {400, 422}
    assert (await desk.give_back(new_id())).status_code == 404
    assert (await desk.give_back(paid, tenant="other")).status_code == 403

    assert (await desk.give_back(paid, {"amount": "1.00"})).status_code == 201


async def test_in_flight_it_is_a_409_that_says_when_to_come_back_and_keeps_nothing(desk, provider, paid):
    provider.may_answer.clear()
    first = asyncio.create_task(desk.give_back(paid, {"amount": "1.00"}))
    await eventually(lambda: provider.refunds, every=0.01)
    meanwhile = await desk.give_back(paid, {"amount": "1.00"})
    other = await desk.give_back(paid, {"amount": "2.00"})
    provider.may_answer.set()

    assert problem(meanwhile) == (409, "idempotency-in-flight")
    assert int(meanwhile.headers["retry-after"]) >= 1
    assert problem(other) == (422, "idempotency-mismatch")
    assert (await first).status_code == 201
    assert (await desk.give_back(paid, {"amount": "1.00"})).json()["id"] == (await first).json()["id"]


async def test_not_known_yet_it_is_a_202_and_repeating_says_what_became_of_it(desk, provider, paid):
    provider.next_posts.append("lost")
    provider.blind = True
    first = await desk.give_back(paid)
    provider.blind = False
    again = await desk.give_back(paid)

    assert (first.status_code, first.json()["status"]) == (202, "processing")
    assert (again.status_code, again.json()["status"], again.json()["id"]) == (201, "succeeded", first.json()["id"])
    assert provider.posts.count(first.json()["id"]) == 1


async def test_refused_by_the_provider_it_has_failed_for_good_and_another_key_may_try(desk, provider, paid):
    provider.next_posts.append("refuse")
    failed = await desk.give_back(paid, key="first")
    again = await desk.give_back(paid, key="first")

    assert (failed.status_code, failed.json()["status"]) == (201, "failed")
    assert again.json() == failed.json()
    assert (await desk.give_back(paid, key="second")).json()["status"] == "succeeded"


@pytest.mark.parametrize(
    ("paid_as", "body", "pointer"),
    [
        ({}, {"amount": "4.505"}, "/amount"),
        ({}, {"amount": "0.00"}, "/amount"),
        ({"currency": "JPY", "amount": "900"}, {"amount": "4.5"}, "/amount"),
        ({}, {"amount": {"amount": "4.50", "currency": "EUR"}}, "/amount/currency"),
    ],
)
async def test_an_amount_that_does_not_fit_is_refused_by_field(desk, provider, paid_as, body, pointer):
    paid = (await desk.pay(**paid_as)).json()["paymentId"]
    answer = await desk.give_back(paid, body)

    assert problem(answer) == (422, "invalid-request")
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
    assert provider.posts == ["o-1:charge"]


async def test_another_callers_and_another_tenants_same_key_is_another(desk, provider, paid):
    theirs = (await desk.pay(tenant="other")).json()["paymentId"]
    mine = await desk.give_back(paid, {"amount": "1.00"}, sub="me")
    yours = await desk.give_back(paid, {"amount": "2.00"}, sub="you")
    other = await desk.give_back(theirs, {"amount": "3.00"}, sub="me", tenant="other")

    assert [one.status_code for one in (mine, yours, other)] == [201] * 3
    ids = {one.json()["id"] for one in (mine, yours, other)}
    assert len(ids) == 3
    assert set(provider.refunds) == ids


async def test_the_provider_sees_the_refunds_id_and_nobody_keeps_the_callers_key(desk, provider, paid, bytes_on_disk):
    refund = await desk.give_back(paid, key="a-telling-key-of-the-caller")

    assert list(provider.refunds) == [refund.json()["id"]]
    assert b"a-telling-key-of-the-caller" not in bytes_on_disk()


async def test_only_administrators_of_the_tenant_give_back(desk, provider, paid):
    for role in ("user", "staff"):
        assert problem(await desk.give_back(paid, role=role)) == (403, "role-missing")
    assert problem(await desk.give_back(paid, tenant="other")) == (403, "different-tenant")
    for unknown in (new_id(), "p", "x" * 300):
        assert problem(await desk.give_back(unknown)) == (404, "payment-not-found")
    anybody = await desk.client.post(f"/api/v1/payments/{paid}/refunds", json={}, headers={"Idempotency-Key": "k"})
    assert anybody.status_code == 401
    assert provider.posts == ["o-1:charge"]


async def test_a_key_stands_for_a_day(desk, paid, sql):
    first = await desk.give_back(paid, {"amount": "1.00"})
    sql(refund_keys.update().values(created_at=now() - timedelta(hours=23, minutes=59)))
    assert (await desk.give_back(paid, {"amount": "1.00"})).json()["id"] == first.json()["id"]
    sql(refund_keys.update().values(created_at=now() - timedelta(hours=24, minutes=1)))
    anew = await desk.give_back(paid, {"amount": "1.00"})

    assert "idempotency-replayed" not in anew.headers
    assert anew.json()["id"] != first.json()["id"]


async def test_what_was_declined_or_is_not_known_yet_gives_nothing_back(desk, provider):
    provider.next_posts.append("decline")
    declined = (await desk.pay()).json()["paymentId"]
    provider.next_posts.append("down")
    provider.blind = True
    unknown = (await desk.pay(key="o-2:charge", orderId="o-2")).json()["paymentId"]

    assert problem(await desk.give_back(declined)) == (409, "refund-exceeds-captured")
    assert problem(await desk.give_back(unknown, key="k-2")) == (409, "refund-exceeds-captured")


async def test_many_tills_at_once_never_give_back_more_than_was_captured(till, provider):
    paid = (await till.pay()).payment_id
    api = till.parts
    drivers = [replace(api.refund_driver) for _ in range(4)]  # each knows nothing of the others

    async def give_back(number: int):
        key = {"key": f"k-{number}", "body_hash": "b", "payment_id": paid, "amount": 400 if number % 3 else None}
        refund, made = await api.refunds.get_or_reserve_once("default", **key)
        return await drivers[number % 4].drive(refund, fresh=made)

    answers = await asyncio.gather(*(give_back(number) for number in range(1, 17)), return_exceptions=True)

    given = [one for one in answers if not isinstance(one, BaseException)]
    assert all(isinstance(one, RefundExceedsCaptured) for one in answers if isinstance(one, BaseException))
    assert sum(one.amount for one in given) == (await till.charge_row()).refunded <= 900
    assert sum(provider.money[key] for key in provider.refunds) == (await till.charge_row()).refunded


async def test_many_with_one_key_are_one_refund(till, provider):
    paid = (await till.pay()).payment_id
    provider.may_answer.clear()
    api = till.parts

    async def give_back(body_hash="b"):
        key = {"key": "k", "body_hash": body_hash, "payment_id": paid, "amount": 400}
        refund, made = await api.refunds.get_or_reserve_once("default", **key)
        return await replace(api.refund_driver).drive(refund, fresh=made)

    calls = [asyncio.create_task(give_back()) for _ in range(6)] + [asyncio.create_task(give_back("other"))]
    await eventually(lambda: provider.refunds, every=0.01)
    provider.may_answer.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(one, KeyInFlight) for one in answers) == 5
    assert sum(isinstance(one, KeyMismatch) for one in answers) == 1
    assert (await till.charge_row()).refunded == 400
    assert len(await till.refund_rows()) == 1
