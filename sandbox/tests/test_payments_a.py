"""Provider A's own dialect: what it asks for, what it answers."""

from decimal import Decimal
from typing import Any

import pytest

from .conftest import Outside, exact

BODY = {"orderId": "o-1", "amount": Decimal("9.00"), "currency": "USD", "paymentMethod": "credit_card"}


def test_a_charge_is_approved_in_as_words(outside: Outside):
    answer = outside.charge(key="k-1")

    assert answer.status_code == 200
    assert answer.json() == {"transactionId": answer.json()["transactionId"], "status": "approved", "reason": None}


def test_a_declined_charge_has_an_id_and_a_reason(outside: Outside):
    answer = outside.charge(token="tok_declined").json()

    assert answer == {"transactionId": answer["transactionId"], "status": "declined", "reason": "card_declined"}


def test_a_look_up_shows_the_charge_and_what_was_given_back(outside: Outside):
    charged = outside.charge(key="k").json()
    assert b'"refunded":0.00' in outside.find_charge("k").content
    outside.refund(charged["transactionId"], "2.50")

    found = outside.find_charge("k")

    assert found.status_code == 200
    assert found.json() == charged | {"orderId": "o-1", "amount": 9.0, "currency": "USD", "refunded": 2.5}
    assert b'"amount":9.00,"currency":"USD","refunded":2.50' in found.content


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"orderId": ""}, "orderId"),
        ({"orderId": 7}, "orderId"),
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

    refused = outside.http.post("/api/v1/payment", content=exact(body))

    assert (refused.status_code, refused.json()["error"]["param"]) == (422, missing)


def test_a_refund_stands_in_the_ledger_and_can_be_looked_up(outside: Outside):
    charged = outside.charge(key="c").json()

    made = outside.refund(charged["transactionId"], "4.00", key="r")

    assert made.status_code == 201
    assert made.json() == {
        "refundId": made.json()["refundId"],
        "transactionId": charged["transactionId"],
        "status": "succeeded",
        "amount": 4.0,
    }
    found = outside.http.get("/api/v1/payment/refunds", params={"key": "r"})
    assert (found.status_code, found.json()) == (200, made.json())
    entry = outside.ledger()[1]
    assert (entry["kind"], entry["orderId"], entry["idempotencyKey"], entry["amount"]) == ("refund", "o-1", "r", "4.00")


def test_what_was_declined_cannot_be_given_back(outside: Outside):
    declined = outside.charge(token="tok_declined").json()["transactionId"]

    refused = outside.refund(declined, "1.00")

    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "transaction_not_charged")


def test_a_refusal_does_not_repeat_what_was_sent(outside: Outside):
    assert "4111" not in outside.charge(cardToken=["4111111111111111"]).text
