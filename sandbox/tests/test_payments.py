"""Payment provider A over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from .conftest import Outside

BODY = {"orderId": "o-1", "amount": "9.00", "currency": "USD", "paymentMethod": "credit_card"}


def test_an_approved_charge_stands_in_the_ledger(outside: Outside):
    answer = outside.charge(key="k-1")

    assert answer.status_code == 200
    assert answer.json() == {"transactionId": answer.json()["transactionId"], "status": "approved", "reason": None}
    [entry] = outside.ledger()
    assert entry.pop("at").endswith("Z")
    assert entry == {
        "provider": "a",
        "kind": "charge",
        "orderId": "o-1",
        "idempotencyKey": "k-1",
        "amount": "9.00",
        "currency": "USD",
    }


def test_the_same_key_and_body_is_one_charge_with_one_answer(outside: Outside):
    first, second, as_number = outside.charge(key="k"), outside.charge(key="k"), outside.charge(key="k", amount=9.0)

    assert first.json() == second.json() == as_number.json()
    assert len(outside.ledger()) == 1


@pytest.mark.parametrize("other", [{"amount": "9.01"}, {"orderId": "o-2"}, {"currency": "EUR"}, {"token": "tok_other"}])
def test_the_same_key_with_another_body_is_refused(outside: Outside, other: dict[str, str]):
    outside.charge(key="k")

    refused = outside.charge(key="k", **other)

    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert len(outside.ledger()) == 1


def test_without_a_key_every_call_is_a_charge(outside: Outside):
    first, second = outside.charge(), outside.charge()

    assert first.json()["transactionId"] != second.json()["transactionId"]
    assert [entry["idempotencyKey"] for entry in outside.ledger()] == [None, None]


def test_calls_at_the_same_moment_with_one_key_make_one_charge(outside: Outside):
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(outside.charge, key="k") for _ in range(24)]

    assert len({call.result().json()["transactionId"] for call in calls}) == 1
    assert len(outside.ledger()) == 1


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("tok_declined", "card_declined"),
        ("tok_insufficient_funds", "insufficient_funds"),
        ("tok_never_heard_of", "unknown_token"),
    ],
)
def test_a_decline_is_remembered_and_takes_no_money(outside: Outside, token: str, reason: str):
    first = outside.charge(key="k", token=token)

    assert first.status_code == 200
    assert (first.json()["status"], first.json()["reason"]) == ("declined", reason)
    assert outside.charge(key="k", token=token).json() == first.json()
    assert outside.find_charge("k").json()["status"] == "declined"
    assert outside.ledger() == []


def test_a_charge_without_a_card_is_approved(outside: Outside):
    assert outside.charge(token=None).json()["status"] == "approved"


def test_a_flaky_card_fails_twice_for_each_key_and_then_works(outside: Outside):
    for key in ("k-1", "k-2"):
        assert [outside.charge(key=key, token="tok_flaky").status_code for _ in range(4)] == [503, 503, 200, 200]

    assert [entry["idempotencyKey"] for entry in outside.ledger()] == ["k-1", "k-2"]


def test_a_lost_reply_is_charged_once_and_only_the_look_up_tells(outside: Outside):
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            outside.charge(key="k", token="tok_lost_reply")

    assert outside.find_charge("k").json()["status"] == "approved"
    assert len(outside.ledger()) == 1


def test_a_look_up_shows_the_charge_and_what_was_given_back(outside: Outside):
    charged = outside.charge(key="k", amount="9.00").json()
    assert outside.find_charge("k").json()["refunded"] == "0.00"
    outside.refund(charged["transactionId"], "2.50")

    found = outside.find_charge("k")

    assert found.status_code == 200
    assert found.json() == charged | {"orderId": "o-1", "amount": "9.00", "currency": "USD", "refunded": "2.50"}


def test_a_look_up_of_an_unknown_key_is_not_found(outside: Outside):
    assert outside.find_charge("never").status_code == 404
    assert outside.http.get("/api/v1/payment").status_code == 404
    assert outside.http.get("/api/v1/payment/refunds", params={"key": "never"}).status_code == 404


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"orderId": ""}, "orderId"),
        ({"orderId": 7}, "orderId"),
        ({"amount": "0"}, "amount"),
        ({"amount": "-1.00"}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "1e999999"}, "amount"),
        ({"amount": "nine"}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": None}, "amount"),
        ({"currency": "usd"}, "currency"),
        ({"paymentMethod": ""}, "paymentMethod"),
        ({"cardToken": 4111}, "cardToken"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_charged(outside: Outside, change: dict[str, Any], param: str):
    refused = outside.charge(key="k", **change)

    assert (refused.status_code, refused.json()["error"]["param"]) == (422, param)
    assert outside.find_charge("k").status_code == 404
    assert outside.ledger() == []


@pytest.mark.parametrize("missing", [*BODY])
def test_a_missing_field_is_named(outside: Outside, missing: str):
    body = {name: value for name, value in BODY.items() if name != missing}

    refused = outside.http.post("/api/v1/payment", json=body)

    assert (refused.status_code, refused.json()["error"]["param"]) == (422, missing)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"amount": NaN}', b"[" * 100_000])
def test_what_is_not_json_is_refused(outside: Outside, content: bytes):
    refused = outside.http.post("/api/v1/payment", content=content)

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_json")


def test_a_refusal_does_not_repeat_what_was_sent(outside: Outside):
    assert "4111" not in outside.charge(cardToken=["4111111111111111"]).text


def test_a_json_number_is_read_as_a_decimal(outside: Outside):
    outside.http.post("/api/v1/payment", content=b'{"orderId":"o","amount":0.30,"currency":"USD","paymentMethod":"x"}')

    assert outside.ledger()[0]["amount"] == "0.30"


def test_a_key_of_256_characters_is_refused(outside: Outside):
    assert outside.charge(key="k" * 255).status_code == 200
    assert outside.charge(key="k" * 256).status_code == 422


def test_a_refund_stands_in_the_ledger_and_can_be_looked_up(outside: Outside):
    charged = outside.charge(key="c").json()

    made = outside.refund(charged["transactionId"], "4.00", key="r")

    assert made.status_code == 201
    assert made.json() == {
        "refundId": made.json()["refundId"],
        "transactionId": charged["transactionId"],
        "status": "succeeded",
        "amount": "4.00",
    }
    found = outside.http.get("/api/v1/payment/refunds", params={"key": "r"})
    assert (found.status_code, found.json()) == (200, made.json())
    entry = outside.ledger()[1]
    assert (entry["kind"], entry["orderId"], entry["idempotencyKey"], entry["amount"]) == ("refund", "o-1", "r", "4.00")


def test_a_keyed_refund_is_made_once(outside: Outside):
    transaction = outside.charge().json()["transactionId"]

    first, second = (outside.refund(transaction, "9.00", key="r") for _ in range(2))

    assert first.json() == second.json()
    assert outside.refund(transaction, "1.00", key="r").json()["error"]["code"] == "idempotency_key_reused"
    assert [entry["kind"] for entry in outside.ledger()] == ["charge", "refund"]


def test_refunds_together_cannot_exceed_the_charge(outside: Outside):
    transaction = outside.charge(amount="9.00").json()["transactionId"]

    answers = [outside.refund(transaction, amount) for amount in ("5.00", "4.01", "4.00", "0.01")]

    assert [answer.status_code for answer in answers] == [201, 422, 201, 422]
    assert answers[1].json()["error"]["code"] == "refund_exceeds_charge"


def test_only_money_that_was_taken_can_be_given_back(outside: Outside):
    declined = outside.charge(token="tok_declined").json()["transactionId"]

    assert outside.refund("txn_never", "1.00").status_code == 404
    assert outside.refund(declined, "1.00").status_code == 422
    assert outside.refund(declined, "0").json()["error"]["param"] == "amount"


def test_the_ledger_can_be_read_for_one_order(outside: Outside):
    outside.charge(orderId="o-1")
    outside.charge(orderId="o-2")

    assert [entry["orderId"] for entry in outside.ledger(orderId="o-2")] == ["o-2"]


def test_the_look_up_of_refunds_is_no_transaction_id(outside: Outside):
    assert outside.http.post("/api/v1/payment/refunds", json={}).status_code == 405
