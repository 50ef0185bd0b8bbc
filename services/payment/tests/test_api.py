"""The service as order sees it: its two calls, its refusals, and what never leaves it."""

from decimal import Decimal

import pytest
import structlog

from chassis.sidecar import Answer
from stack.eventually import eventually

CHARGE, LOOKUP = "payment-a/api/v1/payment", "payment-a-lookup/api/v1/payment"
TOKEN = "tok_very_secret_4242"
BODY = {
    "key": "o-1:charge",
    "orderId": "o-1",
    "amount": "9.00",
    "currency": "USD",
    "paymentMethod": "credit_card",
    "cardToken": TOKEN,
    "description": "Order o-1",
}


@pytest.fixture
def sidecar(sidecar):
    sidecar.answers = {
        CHARGE: Answer(status=200, data={"transactionId": "t-1", "status": "approved", "reason": None}),
        f"{CHARGE}/t-1/refunds": Answer(status=201, data={"refundId": "r-1", "status": "succeeded"}),
    }
    return sidecar


@pytest.fixture
async def client(running):
    async with running() as client:
        yield client


def assert_problem(answer, status, error_type):
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errorType"] == error_type
    assert TOKEN not in answer.text


async def test_a_payment_and_its_refund(client, sidecar):
    paid = (await client.post("/process-payment", json=BODY)).json()
    refund = {"key": "o-1:refund", "paymentId": paid["paymentId"], "amount": "4.00"}
    refunded = (await client.post("/refund-payment", json=refund)).json()

    assert paid.keys() == {"success", "paymentId", "status", "transactionId", "errorMessage", "processedAt"}
    assert (paid["success"], paid["status"], paid["transactionId"]) == (True, "succeeded", "t-1")
    assert paid["processedAt"].endswith("Z")
    assert (refunded["success"], refunded["status"]) == (True, "succeeded")
    told = {
        "orderId": "o-1",
        "amount": Decimal("9.00"),
        "currency": "USD",
        "paymentMethod": "credit_card",
        "cardToken": TOKEN,
    }
    assert sidecar.invoked == [(CHARGE, told), (f"{CHARGE}/t-1/refunds", {"amount": Decimal("4.00")})]


async def test_a_currency_left_out_is_usd_and_the_description_is_kept(client, sidecar, issuer):
    body = {name: value for name, value in BODY.items() if name != "currency"} | {"description": "Two lattes"}
    paid = (await client.post("/process-payment", json=body)).json()["paymentId"]

    kept = (await client.get(f"/api/v1/payments/{paid}", headers=issuer.bearer("staff"))).json()
    assert (kept["amount"], kept["description"]) == ({"amount": "9.00", "currency": "USD"}, "Two lattes")
    assert sidecar.invoked[0][1]["currency"] == "USD"


async def test_the_name_of_the_tenant_is_in_events_and_logs_of_its_charges_and_refunds(client, sidecar, capture):
    named = {"X-Tenant-Name": "K%C3%B6ln%20%26%20S%C3%B6hne"}
    with capture() as logs:
        paid = (await client.post("/process-payment", json=BODY, headers=named)).json()["paymentId"]
        await client.post("/refund-payment", json={"key": "r", "paymentId": paid, "amount": "9.00"})
    await eventually(lambda: len(sidecar.published) == 2, every=0.005)

    assert [event["tenantname"] for event in sidecar.published] == ["Köln & Söhne"] * 2
    settled = [line for line in logs if line["event"] in {"charge.settled", "refund.settled"}]
    assert [line["tenant_name"] for line in settled] == ["Köln & Söhne"] * 2


async def test_a_decline_is_a_value_in_a_200(client, sidecar):
    declined = {"transactionId": "t-2", "status": "declined", "reason": "insufficient_funds"}
    sidecar.answers[CHARGE] = Answer(status=200, data=declined)

    answer = await client.post("/process-payment", json=BODY)

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["errorMessage"]) == ("declined", "insufficient_funds")


async def test_a_payment_in_flight_is_never_a_refusal(client, sidecar):
    sidecar.answers |= {CHARGE: Answer(status=503, data=None), LOOKUP: Answer(status=404, data=None)}

    answer = await client.post("/process-payment", json=BODY)

    assert (answer.status_code, answer.json()["status"]) == (200, "processing")


async def test_settle_only_asks_nobody_to_charge(client, sidecar):
    answer = await client.post("/process-payment", json=BODY | {"settleOnly": True})

    assert answer.json()["status"] == "failed"
    assert sidecar.invoked == []


async def test_a_key_used_for_something_else_is_refused(client):
    await client.post("/process-payment", json=BODY)

    answer = await client.post("/process-payment", json=BODY | {"amount": "9.01"})

    assert_problem(answer, 422, "idempotency-mismatch")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"amount": "9.005"}, "/amount"),
        ({"amount": "0.00"}, "/amount"),
        ({"amount": "-1.00"}, "/amount"),
        ({"amount": 9.0}, "/amount"),
        ({"amount": "9.50", "currency": "JPY"}, "/amount"),
        ({"amount": "9" * 15}, "/amount"),
        ({"currency": "QQQ"}, "/currency"),
        ({"currency": "usd"}, "/currency"),
        ({"key": ""}, "/key"),
        ({"key": "two\nlines"}, "/key"),
        ({"cardToken": TOKEN * 20}, "/cardToken"),
    ],
)
async def test_bad_input_is_refused_by_field_and_nobody_is_charged(client, sidecar, wrong, pointer):
    answer = await client.post("/process-payment", json=BODY | wrong)

    assert_problem(answer, 422, "invalid-request")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert sidecar.invoked == []


async def test_the_largest_amount_fits_its_column(client):
    answer = await client.post("/process-payment", json=BODY | {"amount": "9" * 14 + ".9999", "currency": "CLF"})

    assert answer.json()["status"] == "succeeded"


async def test_a_call_without_a_tenant_is_refused(client, sidecar):
    del client.headers["X-Tenant-Id"]

    assert_problem(await client.post("/process-payment", json=BODY), 422, "invalid-request")
    assert sidecar.invoked == []


async def test_a_refund_of_nothing_we_know_or_of_too_much_is_refused(client):
    paid = (await client.post("/process-payment", json=BODY)).json()["paymentId"]

    unknown = await client.post("/refund-payment", json={"key": "r", "paymentId": "p", "amount": "1.00"})
    too_much = await client.post("/refund-payment", json={"key": "r", "paymentId": paid, "amount": "9.01"})

    assert_problem(unknown, 404, "payment-not-found")
    assert_problem(too_much, 409, "refund-exceeds-captured")


async def test_the_card_token_is_in_no_answer_and_no_log(running, sidecar):
    with structlog.testing.capture_logs() as logs:
        async with running() as client:
            sidecar.answers |= {CHARGE: Answer(status=500, data=None), LOOKUP: Answer(status=404, data=None)}
            unknown = await client.post("/process-payment", json=BODY)
            sidecar.answers[CHARGE] = Answer(status=400, data={"error": TOKEN})
            again = await client.post("/process-payment", json=BODY | {"key": "o-2:charge"})

    assert again.json()["status"] == "failed"
    assert any(line["event"] == "charge.settled" for line in logs)
    assert TOKEN not in unknown.text + again.text + repr(logs)


async def test_at_its_start_the_only_process_takes_up_what_a_dead_one_left(running, opened, provider):
    provider.may_begin.clear()
    dead = await opened(answer_seconds=0.01)
    assert (await dead.pay()).status == "processing"
    await dead.kill()
    provider.may_begin.set()

    async with running(by_name={"a": provider}):
        await eventually(lambda: provider.captured)

    assert provider.lookups == ["o-1:charge"]
    assert provider.captured == ["o-1:charge"]


async def test_reconciliation_is_a_job_that_the_scheduler_can_start(running, sidecar, provider):
    async with running(by_name={"a": provider}) as client:
        await eventually(lambda: sidecar.jobs.get("reconcile-payments") == "@every 10s")
        assert (await client.post("/job/reconcile-payments", json={})).status_code == 200


async def test_it_is_ready_while_its_sidecar_and_its_database_are(client, sidecar):
    assert (await client.get("/health/ready")).status_code == 200
    sidecar.alive = False

    assert_problem(await client.get("/health/ready"), 503, "unhealthy")
    assert (await client.get("/health/live")).status_code == 200


async def test_staff_is_told_which_charges_and_refunds_are_open_and_when_they_are_looked_at_again(
    client, sidecar, issuer
):
    staff = issuer.bearer("staff")
    paid = (await client.post("/process-payment", json=BODY)).json()["paymentId"]
    assert (await client.get("/api/v1/payments/unsettled", headers=staff)).json() == {"items": []}
    sidecar.answers = dict.fromkeys(
        (CHARGE, LOOKUP, f"{CHARGE}/t-1/refunds", f"{LOOKUP}/refunds"), Answer(status=503, data=None)
    )
    await client.post("/refund-payment", json={"key": "r", "paymentId": paid, "amount": "4.00"})
    await client.post("/process-payment", json=BODY | {"key": "o-2:charge", "orderId": "o-2"})

    found = (await client.get("/api/v1/payments/unsettled", headers=staff)).json()["items"]

    known = [(one["kind"], one["orderId"], one["amount"]["amount"], one["provider"]) for one in found]
    assert known == [("refund", "o-1", "4.00", "a"), ("charge", "o-2", "9.00", "a")]
    assert found[0]["paymentId"] == paid
    assert all(one["nextCheckAt"] > one["since"] for one in found)
    elsewhere = issuer.bearer("staff", tenant="other")
    assert (await client.get("/api/v1/payments/unsettled", headers=elsewhere)).json() == {"items": []}
