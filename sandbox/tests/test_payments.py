"""What both payment providers do alike, over HTTP: cards, keys, refunds, look-ups."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import orjson
import pytest

from .conftest import MERCHANTS, Merchant, Outside, exact


def charged(merchant: Merchant, **asked: str) -> str:
    """The id of an approved charge."""
    said = merchant.said(merchant.charge(**asked))
    assert said.transaction_id
    return said.transaction_id


def test_an_approved_charge_stands_in_the_ledger(outside: Outside, merchant: Merchant):
    answer = merchant.charge(key="k-1")

    assert answer.status_code == 200
    assert (merchant.said(answer).approved, merchant.said(answer).reason) == (True, None)
    [entry] = outside.ledger()
    assert entry.pop("at").endswith("Z")
    assert entry == {
        "provider": merchant.name,
        "kind": "charge",
        "orderId": "o-1",
        "idempotencyKey": "k-1",
        "amount": "9.00",
        "currency": "USD",
    }


def test_the_same_key_and_body_is_one_charge_with_one_answer(outside: Outside, merchant: Merchant):
    first, second = merchant.charge(key="k"), merchant.charge(key="k")

    assert first.json() == second.json()
    assert len(outside.ledger()) == 1


@pytest.mark.parametrize("other", [{"amount": "9.01"}, {"order": "o-2"}, {"currency": "EUR"}, {"token": "tok_other"}])
def test_the_same_key_with_another_body_is_refused(outside: Outside, merchant: Merchant, other: dict[str, str]):
    merchant.charge(key="k")

    refused = merchant.charge(key="k", **other)

    assert (refused.status_code, merchant.error(refused)) == (422, ("idempotency_key_reused", None))
    assert len(outside.ledger()) == 1


def test_without_a_key_every_call_is_a_charge(outside: Outside, merchant: Merchant):
    assert charged(merchant) != charged(merchant)
    assert [entry["idempotencyKey"] for entry in outside.ledger()] == [None, None]


def test_calls_at_the_same_moment_with_one_key_make_one_charge(outside: Outside, merchant: Merchant):
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(merchant.charge, key="k") for _ in range(24)]

    assert len({merchant.said(call.result()).transaction_id for call in calls}) == 1
    assert len(outside.ledger()) == 1


def test_refunds_at_the_same_moment_with_one_key_make_one_refund(outside: Outside, merchant: Merchant):
    transaction = charged(merchant)

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(merchant.refund, transaction, "1.00", key="r") for _ in range(24)]

    assert len({call.result().json()["refundId"] for call in calls}) == 1
    assert [entry["kind"] for entry in outside.ledger()] == ["charge", "refund"]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("tok_declined", "card_declined"),
        ("tok_insufficient_funds", "insufficient_funds"),
        ("tok_never_heard_of", "unknown_token"),
    ],
)
def test_a_decline_is_remembered_and_takes_no_money(outside: Outside, merchant: Merchant, token: str, reason: str):
    first = merchant.charge(key="k", token=token)

    assert first.status_code == 200
    assert (merchant.said(first).approved, merchant.said(first).reason) == (False, reason)
    assert merchant.charge(key="k", token=token).json() == first.json()
    assert merchant.said(merchant.find_charge("k")) == merchant.said(first)
    assert outside.ledger() == []


def test_a_charge_without_a_card_is_approved(merchant: Merchant):
    assert merchant.said(merchant.charge(token=None)).approved


def test_a_flaky_card_fails_twice_for_each_key_and_then_works(outside: Outside, merchant: Merchant):
    for key in ("k-1", "k-2"):
        assert [merchant.charge(key=key, token="tok_flaky").status_code for _ in range(4)] == [503, 503, 200, 200]

    assert [entry["idempotencyKey"] for entry in outside.ledger()] == ["k-1", "k-2"]


def test_a_lost_reply_is_charged_once_and_only_the_look_up_tells(outside: Outside, merchant: Merchant):
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            merchant.charge(key="k", token="tok_lost_reply")

    assert merchant.said(merchant.find_charge("k")).approved
    assert len(outside.ledger()) == 1


def test_a_look_up_of_an_unknown_key_is_not_found(merchant: Merchant):
    for answer in (merchant.find_charge("never"), merchant.find_charge(""), merchant.find_refund("never")):
        assert (answer.status_code, merchant.error(answer)) == (404, ("not_found", None))


def test_a_key_of_256_characters_is_refused(merchant: Merchant):
    assert merchant.charge(key="k" * 255).status_code == 200
    refused = merchant.charge(key="k" * 256)
    assert (refused.status_code, merchant.error(refused)) == (422, ("invalid_request", "Idempotency-Key"))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"amount": NaN}', b"[" * 100_000])
def test_what_is_not_json_is_refused(outside: Outside, merchant: Merchant, content: bytes):
    headers = {"Authorization": merchant.charge().request.headers.get("authorization", "")}

    refused = outside.http.post(merchant.path, content=content, headers=headers)

    assert (refused.status_code, merchant.error(refused)) == (400, ("invalid_json", None))


AMOUNTS = {"USD": ("9.00", "0.05"), "JPY": ("900", "5"), "KWD": ("0.900", "0.005"), "CLF": ("12.3456", "0.0001")}


def test_an_amount_is_a_number_with_the_currencys_own_decimals_and_is_kept_digit_for_digit(
    outside: Outside, merchant: Merchant
):
    for currency, (paid, given_back) in AMOUNTS.items():
        charge = merchant.said(merchant.charge(amount=paid, currency=currency))
        assert merchant.refund(str(charge.transaction_id), given_back).status_code == 201

    kept = [(entry["currency"], entry["amount"]) for entry in outside.ledger()]
    assert kept == [(currency, amount) for currency, both in AMOUNTS.items() for amount in both]


NO_AMOUNTS = [b'"9.00"', b"9", b"9.0", b"9.000", b"900", b"9e0", b"0.00", b"-9.00", b"true", b"null", b"[9.00]"]
OTHERS = {"orderId": "o-1", "paymentMethod": "credit_card"}  # what A wants besides


def test_what_is_no_such_number_is_refused(outside: Outside, merchant: Merchant):
    paid = charged(merchant, key="k")
    headers = {"Authorization": f"Bearer {outside.settings.payment_b_key}"}
    for written in NO_AMOUNTS:
        asked = exact({"amount": orjson.Fragment(written), "currency": "USD"} | OTHERS)
        refunded = b'{"amount": %b}' % written
        for path, body in ((merchant.path, asked), (f"{merchant.path}/{paid}/refunds", refunded)):
            refused = outside.http.post(path, content=body, headers=headers)
            assert (refused.status_code, merchant.error(refused)) == (422, ("invalid_request", "amount")), written
    assert len(outside.ledger()) == 1


def test_what_is_no_currency_is_refused(outside: Outside, merchant: Merchant):
    # The last is gold: a code, but without decimal places.
    for currency in ("usd", "ZZZ", "", "XAU"):
        refused = merchant.charge(currency=currency)
        assert (refused.status_code, merchant.error(refused)) == (422, ("invalid_request", "currency")), currency
    assert outside.ledger() == []


def test_a_refund_stands_in_the_ledger_and_can_be_looked_up(outside: Outside, merchant: Merchant):
    made = merchant.refund(charged(merchant, key="c"), "4.00", key="r")

    assert made.status_code == 201
    found = merchant.find_refund("r")
    assert (found.status_code, found.json()) == (200, made.json())
    entry = outside.ledger()[1]
    assert (entry["provider"], entry["kind"], entry["orderId"]) == (merchant.name, "refund", "o-1")
    assert (entry["idempotencyKey"], entry["amount"], entry["currency"]) == ("r", "4.00", "USD")


def test_a_keyed_refund_is_made_once(outside: Outside, merchant: Merchant):
    transaction = charged(merchant)

    first, second = (merchant.refund(transaction, "9.00", key="r") for _ in range(2))

    assert first.json() == second.json()
    assert merchant.error(merchant.refund(transaction, "1.00", key="r")) == ("idempotency_key_reused", None)
    assert [entry["kind"] for entry in outside.ledger()] == ["charge", "refund"]


def test_refunds_together_cannot_exceed_the_charge(merchant: Merchant):
    transaction = charged(merchant, amount="9.00")

    answers = [merchant.refund(transaction, amount) for amount in ("5.00", "4.01", "4.00", "0.01")]

    assert [answer.status_code for answer in answers] == [201, 422, 201, 422]
    assert merchant.error(answers[1]) == ("refund_exceeds_charge", None)


def test_only_money_that_was_taken_can_be_given_back(merchant: Merchant):
    unknown, nothing = merchant.refund("txn_never", "1.00"), merchant.refund(charged(merchant), "0")

    assert (unknown.status_code, merchant.error(unknown)) == (404, ("unknown_transaction", None))
    assert (nothing.status_code, merchant.error(nothing)) == (422, ("invalid_request", "amount"))


def test_the_two_providers_know_nothing_of_each_other(outside: Outside, merchant: Merchant):
    transaction = charged(merchant, key="k")
    path = {"a": "/api/payments", "b": "/api/v1/payment"}[merchant.name]
    headers = {"Authorization": f"Bearer {outside.settings.payment_b_key}"}

    assert outside.http.get(path, params={"key": "k"}, headers=headers).status_code == 404
    refund = outside.http.post(f"{path}/{transaction}/refunds", json={"amount": 1}, headers=headers)
    assert refund.status_code == 404


def test_the_ledger_can_be_read_for_one_order(outside: Outside, merchant: Merchant):
    merchant.charge(order="o-1")
    merchant.charge(order="o-2")

    assert [entry["orderId"] for entry in outside.ledger(orderId="o-2")] == ["o-2"]


def test_the_look_up_of_refunds_is_no_transaction_id(outside: Outside, merchant: Merchant):
    assert outside.http.post(f"{merchant.path}/refunds", json={}).status_code == 405


def test_a_fault_is_of_one_provider(outside: Outside, merchant: Merchant):
    outside.set_fault(merchant.target, "error", status=500)

    refused, others = (
        merchant.charge(key="k"),
        [each.target for each in MERCHANTS.values() if each is not type(merchant)],
    )

    assert refused.status_code == 500
    assert outside.ledger() == []
    outside.http.delete("/sandbox/faults")
    outside.set_fault(others[0], "error")
    assert merchant.charge(key="k").status_code == 200


def test_a_fault_that_loses_replies_spares_look_ups(outside: Outside, merchant: Merchant):
    outside.set_fault(merchant.target, "lost-reply")
    with pytest.raises(httpx.RemoteProtocolError):
        merchant.charge(key="k")

    found = merchant.said(merchant.find_charge("k"))
    assert found.approved
    with pytest.raises(httpx.RemoteProtocolError):
        merchant.refund(str(found.transaction_id), "9.00", key="r")
    assert merchant.find_refund("r").status_code == 200
