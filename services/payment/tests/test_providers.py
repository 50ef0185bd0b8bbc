"""What each provider is told, and what its answers mean: one suite over every adapter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from chassis.ids import now
from chassis.sidecar import Answer, SidecarDown, to_json
from payment.domain import Absent, Approved, Charge, Declined, Refund, RefundStatus, Refused, Status, Unknown
from payment.providers import PROVIDERS, Provider
from payment.providers.provider_a import ProviderA
from payment.providers.provider_b import ProviderB
from stack.fake_sidecar import FakeSidecar

BEARER = "key-of-b-that-nobody-may-see"
BEARER_HEADER = {"Authorization": f"Bearer {BEARER}"}
AT: dict[str, Any] = {"created_at": now(), "first_posted_at": now(), "posted_until": now(), "processed_at": None}
CHARGE = Charge(
    id="p-1",
    tenant="default",
    key="o-1:charge&more",
    order_id="o-1",
    amount=1234,
    currency="USD",
    method="credit_card",
    description="Two lattes",
    card_token="tok_ok",
    status=Status.PROCESSING,
    version=1,
    provider="a",
    others="",
    transaction_id="t-1",
    reason=None,
    given_up=False,
    refunded=0,
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
    transaction_id=None,
    reason=None,
    attempts=0,
    traceparent="",
    **AT,
)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a provider speaks, beside its adapter."""

    make: Callable[[FakeSidecar], Provider]
    endpoint: str
    path: str
    authorised: dict[str, str]
    charge_body: str  # with the amount and its currency to be filled in
    approved: dict[str, Any]
    declined: dict[str, Any]
    refunded: dict[str, Any]
    unreadable: tuple[Any, ...]

    def at(self, call: str) -> str:
        paths = {"charge": "", "refund": "/t-1/refunds", "look up a charge": "", "look up a refund": "/refunds"}
        lookup = "-lookup" if call.startswith("look") else ""
        return f"{self.endpoint}{lookup}/{self.path}{paths[call]}"


DIALECTS = {
    "a": Dialect(
        make=ProviderA,
        endpoint="payment-a",
        path="api/v1/payment",
        authorised={},
        charge_body='{"orderId":"o-1","amount":%s,"currency":"%s","paymentMethod":"credit_card","cardToken":"tok_ok"}',
        approved={"status": "approved", "transactionId": "t-9", "reason": None},
        declined={"status": "declined", "transactionId": "t-9", "reason": "do_not_honor"},
        refunded={"status": "succeeded", "refundId": "r-9"},
        unreadable=(
            {"status": "approved", "transactionId": None},
            {"status": "approved", "transactionId": 7},
            {"status": "approved", "transactionId": ""},
            {"status": "approved", "transactionId": "t" * 129},
            {"status": "APPROVED", "transactionId": "t"},
            {"status": "pending", "transactionId": "t"},
            {"status": "accepted", "refundId": "r"},
        ),
    ),
    "b": Dialect(
        make=lambda sidecar: ProviderB(sidecar, {"payment-b-key": BEARER}),
        endpoint="payment-b",
        path="api/payments",
        authorised=BEARER_HEADER,
        charge_body='{"amount":%s,"currency":"%s","cardToken":"tok_ok","description":"Two lattes"}',
        approved={"success": True, "transactionId": "t-9", "errorMessage": None, "processedAt": "2026-01-01T00:00:00Z"},
        declined={"success": False, "transactionId": "t-9", "errorMessage": "do_not_honor", "processedAt": None},
        refunded={"success": True, "refundId": "r-9"},
        unreadable=(
            {"success": True, "transactionId": None},
            {"success": "true", "transactionId": "t"},
            {"success": 1, "transactionId": "t\n"},
            {"success": True, "transactionId": "two words", "refundId": "two words"},
            {"success": None, "errorMessage": "?"},
            {"success": False},
            {"errorCode": "oops", "errorMessage": "no word of success"},
        ),
    ),
}

CALLS: dict[str, Callable[[Provider], Any]] = {
    "charge": lambda provider: provider.charge(CHARGE),
    "refund": lambda provider: provider.refund(REFUND, CHARGE),
    "look up a charge": lambda provider: provider.look_up_charge(CHARGE),
    "look up a refund": lambda provider: provider.look_up_refund(REFUND),
}
POSTS, LOOKUPS = list(CALLS)[:2], list(CALLS)[2:]


class Wire(FakeSidecar):
    """Keeps verbs and headers too."""

    def __init__(self, answers=None):
        super().__init__(answers)
        self.sent = []

    async def invoke(self, app_id, method, body=None, *, verb="POST", headers=None, **how):
        self.sent.append((verb, f"{app_id}/{method}", dict(headers or {})))
        self._record("call", f"{app_id}/{method.partition('?')[0]}", body)
        return await super().invoke(app_id, method, body, verb=verb, headers=headers, **how)


@pytest.fixture(params=DIALECTS)
def dialect(request) -> Dialect:
    return DIALECTS[request.param]


@pytest.fixture
def asked(dialect):
    async def ask(call, answer):
        sidecar = Wire({dialect.at(call): answer})
        return await CALLS[call](dialect.make(sidecar)), sidecar

    return ask


def test_every_adapter_is_here():
    assert set(PROVIDERS) == set(DIALECTS), "a new adapter's dialect belongs here: then all of this is asked of it too"


@pytest.mark.parametrize(("major", "currency"), [("1234", "JPY"), ("12.34", "USD"), ("1.234", "KWD")])
async def test_a_charge_is_posted_under_its_key_with_the_currencys_own_decimals(dialect, major, currency):
    sidecar = Wire({dialect.at("charge"): Answer(status=200, data=dialect.approved)})

    await dialect.make(sidecar).charge(CHARGE.model_copy(update={"currency": currency}))

    headers = dialect.authorised | {"Idempotency-Key": "o-1:charge&more"}
    assert sidecar.sent == [("POST", dialect.at("charge"), headers)]
    ((_, body),) = sidecar.invoked
    assert to_json(body).decode() == dialect.charge_body % (major, currency)


@pytest.mark.parametrize(("major", "currency"), [("1000", "JPY"), ("10.00", "USD"), ("1.000", "KWD")])
async def test_a_refund_is_posted_to_its_transaction_in_the_charges_currency(dialect, major, currency):
    sidecar = Wire({dialect.at("refund"): Answer(status=201, data=dialect.refunded)})

    await dialect.make(sidecar).refund(REFUND, CHARGE.model_copy(update={"currency": currency}))

    headers = dialect.authorised | {"Idempotency-Key": "o-1:refund"}
    assert sidecar.sent == [("POST", dialect.at("refund"), headers)]
    assert to_json(sidecar.invoked[0][1]).decode() == f'{{"amount":{major}}}'


async def test_look_ups_have_an_endpoint_of_their_own_and_an_escaped_key(dialect, asked):
    _, charge = await asked("look up a charge", Answer(status=404, data=None))
    _, refund = await asked("look up a refund", Answer(status=404, data=None))

    at = dialect.at("look up a charge")
    assert charge.sent == [("GET", f"{at}?key=o-1%3Acharge%26more", dialect.authorised)]
    assert refund.sent == [("GET", f"{at}/refunds?key=o-1%3Arefund", dialect.authorised)]


async def test_an_api_refund_is_known_by_its_own_id_and_never_by_the_callers_key(dialect):
    refund = REFUND.model_copy(update={"key": "api:whatever"})
    sidecar = Wire(
        {
            dialect.at("refund"): Answer(status=201, data=dialect.refunded),
            dialect.at("look up a refund"): Answer(status=404, data=None),
        }
    )
    provider = dialect.make(sidecar)

    await provider.refund(refund, CHARGE)
    await provider.look_up_refund(refund)

    (_, _, headers), (_, looked_up, _) = sidecar.sent
    assert headers["Idempotency-Key"] == "r-1"
    assert looked_up.endswith("?key=r-1")


async def test_a_transaction_id_can_not_lead_to_another_path(dialect):
    sidecar = Wire()
    astray = CHARGE.model_copy(update={"transaction_id": "t/../x?y#z"})
    with pytest.raises(KeyError):  # nothing is at that path
        await dialect.make(sidecar).refund(REFUND, astray)

    assert sidecar.sent[0][1] == f"{dialect.endpoint}/{dialect.path}/t%2F..%2Fx%3Fy%23z/refunds"


@pytest.mark.parametrize("call", ["charge", "look up a charge"])
async def test_an_answer_about_a_charge_is_read(dialect, asked, call):
    approved, _ = await asked(call, Answer(status=200, data=dialect.approved))
    declined, _ = await asked(call, Answer(status=201, data=dialect.declined))

    assert approved == Approved(transaction_id="t-9")
    assert declined == Declined(reason="do_not_honor")


@pytest.mark.parametrize("call", ["refund", "look up a refund"])
async def test_an_answer_about_a_refund_is_read(dialect, asked, call):
    assert (await asked(call, Answer(status=201, data=dialect.refunded)))[0] == Approved(transaction_id="r-9")


@pytest.mark.parametrize("call", CALLS)
async def test_what_can_not_be_read_says_nothing(dialect, asked, call):
    for data in (*dialect.unreadable, "approved", ["approved"], None, {}, 7):
        outcome, _ = await asked(call, Answer(status=200, data=data))
        assert outcome == Unknown(reason="unreadable answer"), data


@pytest.mark.parametrize("key", ["reason", "errorMessage"])
async def test_a_reason_is_kept_within_its_column_and_without_control_characters(dialect, key):
    declined = dialect.declined | ({key: "no\x00\x1b" + "n" * 300} if key in dialect.declined else {})
    sidecar = Wire({dialect.at("charge"): Answer(status=200, data=declined)})

    outcome = await dialect.make(sidecar).charge(CHARGE)

    assert isinstance(outcome, Declined)
    assert outcome.reason.isprintable()
    assert len(outcome.reason) <= 255


@pytest.mark.parametrize("call", POSTS)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 422])
async def test_only_the_providers_own_4xx_refuses_a_post(asked, call, status):
    own, _ = await asked(call, Answer(status=status, data={"error": "invalid"}))
    bs, _ = await asked(call, Answer(status=status, data={"errorCode": "invalid_request", "errorMessage": "no"}))
    sidecars, _ = await asked(call, Answer(status=status, data={"errorCode": "ERR_DIRECT_INVOKE"}))

    assert isinstance(own, Refused)
    assert isinstance(bs, Refused)
    assert isinstance(sidecars, Unknown)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [302, 408, 409, 425, 429, 500, 502, 503, 504])
async def test_these_say_nothing(dialect, asked, call, status):
    for data in (None, dialect.approved, dialect.declined, dialect.refunded):
        assert isinstance((await asked(call, Answer(status=status, data=data)))[0], Unknown)


@pytest.mark.parametrize("call", CALLS)
async def test_an_error_of_the_sidecars_own_says_nothing_whatever_its_status(dialect, asked, call):
    for status in (200, 403, 404, 500):
        for code in ("ERR_DIRECT_INVOKE", "ERR_CIRCUIT_BREAKER_OPEN", "DAPR_SCHEDULER_GET_JOB"):
            outcome, _ = await asked(call, Answer(status=status, data=dialect.approved | {"errorCode": code}))
            assert isinstance(outcome, Unknown)


@pytest.mark.parametrize("call", CALLS)
async def test_no_answer_says_nothing(asked, call):
    def down(_body):
        raise SidecarDown

    assert isinstance((await asked(call, down))[0], Unknown)


@pytest.mark.parametrize("call", LOOKUPS)
async def test_only_the_providers_own_404_says_that_it_does_not_know_the_key(asked, call):
    own, _ = await asked(call, Answer(status=404, data={"error": "not_found"}))
    bs, _ = await asked(call, Answer(status=404, data={"errorCode": "not_found", "errorMessage": "no such key"}))
    sidecars, _ = await asked(call, Answer(status=404, data={"errorCode": "ERR_DIRECT_INVOKE"}))
    refused, _ = await asked(call, Answer(status=403, data=None))

    assert own == bs == Absent()
    assert isinstance(sidecars, Unknown)
    assert isinstance(refused, Unknown)


async def test_the_bearer_key_is_in_no_log_and_no_outcome(asked):
    with structlog.testing.capture_logs() as logs:
        said = [(await asked(call, Answer(status=401, data={"error": "no"})))[0] for call in CALLS]

    assert logs
    assert BEARER not in repr(logs) + repr(said)


async def test_the_bearer_key_is_read_at_every_call_so_that_it_can_rotate():
    secrets = {"payment-b-key": "old"}
    sidecar = Wire({DIALECTS["b"].at("charge"): Answer(status=200, data=DIALECTS["b"].approved)})
    provider = ProviderB(sidecar, secrets)

    await provider.charge(CHARGE)
    secrets["payment-b-key"] = "new"
    await provider.charge(CHARGE)

    assert [headers["Authorization"] for _, _, headers in sidecar.sent] == ["Bearer old", "Bearer new"]
