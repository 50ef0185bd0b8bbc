"""What provider A is told, and what its answers mean."""

from typing import Any

import pytest

from chassis.ids import now
from chassis.sidecar import Answer, SidecarDown
from chassis.testing.fake_sidecar import FakeSidecar
from payment.domain import Absent, Approved, Charge, Declined, Refund, RefundStatus, Refused, Status, Unknown
from payment.providers.provider_a import ProviderA

PATH = "api/v1/payment"
AT: dict[str, Any] = {"created_at": now(), "first_posted_at": now(), "posted_until": now(), "processed_at": None}
CHARGE = Charge(
    id="p-1",
    tenant="default",
    key="o-1:charge&more",
    order_id="o-1",
    amount=1234,
    currency="KWD",
    method="credit_card",
    card_token="tok_ok",
    status=Status.PROCESSING,
    provider="a",
    transaction_id="t-1",
    reason=None,
    given_up=False,
    attempts=0,
    traceparent="",
    **AT,
)
REFUND = Refund(
    id="r-1",
    tenant="default",
    key="o-1:refund",
    payment_id="p-1",
    amount=1000,
    status=RefundStatus.PROCESSING,
    reason=None,
    attempts=0,
    traceparent="",
    **AT,
)
CALLS = {
    "charge": (f"payment-a/{PATH}", lambda a: a.charge(CHARGE)),
    "look up a charge": (f"payment-a-lookup/{PATH}", lambda a: a.look_up_charge(CHARGE)),
    "refund": (f"payment-a/{PATH}/t-1/refunds", lambda a: a.refund(REFUND, CHARGE)),
    "look up a refund": (f"payment-a-lookup/{PATH}/refunds", lambda a: a.look_up_refund(REFUND)),
}


class Wire(FakeSidecar):
    """Keeps verbs and headers too."""

    def __init__(self, answers=None):
        super().__init__(answers)
        self.sent = []

    async def invoke(self, app_id, method, body=None, *, verb="POST", headers=None):
        self.sent.append((verb, f"{app_id}/{method}", dict(headers or {})))
        return await super().invoke(app_id, method, body, verb=verb, headers=headers)


async def asked(call, answer):
    at, ask = CALLS[call]
    sidecar = Wire({at: answer})
    return await ask(ProviderA(sidecar)), sidecar


async def test_a_charge_is_posted_under_its_key_in_major_units():
    _, sidecar = await asked("charge", Answer(status=200, data={"status": "approved", "transactionId": "t-1"}))

    assert sidecar.sent == [("POST", f"payment-a/{PATH}", {"Idempotency-Key": "o-1:charge&more"})]
    body = {
        "orderId": "o-1",
        "amount": "1.234",
        "currency": "KWD",
        "paymentMethod": "credit_card",
        "cardToken": "tok_ok",
    }
    assert sidecar.invoked == [(f"payment-a/{PATH}", body)]


async def test_a_refund_is_posted_to_its_transaction_in_the_charges_currency():
    _, sidecar = await asked("refund", Answer(status=201, data={"status": "succeeded", "refundId": "r"}))

    assert sidecar.sent == [("POST", f"payment-a/{PATH}/t-1/refunds", {"Idempotency-Key": "o-1:refund"})]
    assert sidecar.invoked[0][1] == {"amount": "1.000"}


async def test_look_ups_have_an_endpoint_of_their_own_and_an_escaped_key():
    _, charge = await asked("look up a charge", Answer(status=404, data=None))
    _, refund = await asked("look up a refund", Answer(status=404, data=None))

    assert charge.sent == [("GET", f"payment-a-lookup/{PATH}?key=o-1%3Acharge%26more", {})]
    assert refund.sent == [("GET", f"payment-a-lookup/{PATH}/refunds?key=o-1%3Arefund", {})]


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        ({"status": "approved", "transactionId": "t", "reason": None}, Approved(transaction_id="t")),
        ({"status": "declined", "transactionId": "t", "reason": "do_not_honor"}, Declined(reason="do_not_honor")),
        ({"status": "declined", "transactionId": "t", "reason": None}, Declined(reason="declined")),
        ({"status": "approved", "transactionId": None}, Unknown(reason="unreadable answer")),
        ({"status": "APPROVED", "transactionId": "t"}, Unknown(reason="unreadable answer")),
        ("approved", Unknown(reason="unreadable answer")),
        (None, Unknown(reason="unreadable answer")),
    ],
)
@pytest.mark.parametrize("call", ["charge", "look up a charge"])
async def test_an_answer_about_a_charge_is_read(call, data, outcome):
    assert (await asked(call, Answer(status=200, data=data)))[0] == outcome


@pytest.mark.parametrize("call", ["refund", "look up a refund"])
async def test_an_answer_about_a_refund_is_read(call):
    well, _ = await asked(call, Answer(status=200, data={"status": "succeeded", "refundId": "r-9"}))
    odd, _ = await asked(call, Answer(status=200, data={"status": "accepted"}))

    assert well == Approved(transaction_id="r-9")
    assert isinstance(odd, Unknown)


@pytest.mark.parametrize("call", ["charge", "refund"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_only_the_providers_own_4xx_refuses_a_post(call, status):
    own, _ = await asked(call, Answer(status=status, data={"error": "invalid"}))
    sidecars, _ = await asked(call, Answer(status=status, data={"errorCode": "ERR_DIRECT_INVOKE"}))

    assert isinstance(own, Refused)
    assert isinstance(sidecars, Unknown)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [302, 408, 409, 425, 429, 500, 502, 503])
async def test_these_say_nothing(call, status):
    assert isinstance((await asked(call, Answer(status=status, data=None)))[0], Unknown)


@pytest.mark.parametrize("call", CALLS)
async def test_no_answer_says_nothing(call):
    def down(_body):
        raise SidecarDown

    assert isinstance((await asked(call, down))[0], Unknown)


@pytest.mark.parametrize("call", ["look up a charge", "look up a refund"])
async def test_only_the_providers_own_404_says_that_it_does_not_know_the_key(call):
    own, _ = await asked(call, Answer(status=404, data={"error": "not_found"}))
    sidecars, _ = await asked(call, Answer(status=404, data={"errorCode": "ERR_DIRECT_INVOKE"}))
    refused, _ = await asked(call, Answer(status=403, data=None))

    assert own == Absent()
    assert isinstance(sidecars, Unknown)
    assert isinstance(refused, Unknown)
