"""Provider B's own dialect: its key and its words."""

import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import B_KEY, MerchantAtB, Outside, exact, running, settings_in

BODY = {"amount": Decimal("9.00"), "currency": "USD", "cardToken": "tok_ok", "description": "Order o-1"}


def test_a_charge_succeeds_in_bs_words(at_b: MerchantAtB):
    answer = at_b.post(BODY, key="k")

    assert answer.status_code == 200
    said = answer.json()
    assert said.pop("processedAt").endswith("Z")
    assert said == {"success": True, "transactionId": said["transactionId"], "errorMessage": None}
    assert at_b.find_charge("k").json() == answer.json()


def test_a_declined_charge_has_no_id(at_b: MerchantAtB):
    said = at_b.post(BODY | {"cardToken": "tok_insufficient_funds"}, key="k").json()

    assert said.pop("processedAt")
    assert said == {"success": False, "transactionId": None, "errorMessage": "insufficient_funds"}


def test_a_refund_succeeds_in_bs_words(at_b: MerchantAtB):
    said = at_b.refund(at_b.charge().json()["transactionId"], "9.00").json()

    assert said.pop("processedAt").endswith("Z")
    assert said == {"success": True, "refundId": said["refundId"], "errorMessage": None}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cardToken": 4111}, "cardToken"),
        ({"description": "x" * 1001}, "description"),
    ],
)
def test_a_bad_field_is_named(at_b: MerchantAtB, change: dict[str, Any], field: str):
    refused = at_b.post(BODY | change)

    assert (refused.status_code, at_b.error(refused)) == (422, ("invalid_request", field))


def test_a_refusal_does_not_repeat_what_was_sent(at_b: MerchantAtB):
    assert "4111" not in at_b.post(BODY | {"cardToken": ["4111111111111111"]}).text


@pytest.mark.parametrize("missing", ["amount", "currency"])
def test_a_missing_field_is_named(at_b: MerchantAtB, missing: str):
    refused = at_b.post({name: value for name, value in BODY.items() if name != missing})

    assert (refused.status_code, at_b.error(refused)) == (422, ("invalid_request", missing))


@pytest.mark.parametrize(
    ("description", "order"),
    [("Order o-7", "o-7"), ("Coffee. Order o-7", "o-7"), ("Order ", None), ("Coffee", None), ("", None), (None, None)],
)
def test_the_order_is_what_the_description_says(
    outside: Outside, at_b: MerchantAtB, description: str | None, order: str | None
):
    at_b.post(BODY | {"description": description})

    assert [entry["orderId"] for entry in outside.ledger()] == [order]


@pytest.mark.parametrize("shown", [None, "", "Bearer", f"Basic {B_KEY}", B_KEY, "Bearer wrong", "Bearer \xe9"])
def test_whoever_shows_no_key_or_another_one_is_turned_away(outside: Outside, at_b: MerchantAtB, shown: str | None):
    headers = [] if shown is None else [(b"Authorization", shown.encode("latin-1"))]
    calls = [
        outside.http.post("/api/payments", content=exact(BODY), headers=headers),
        outside.http.get("/api/payments", params={"key": "k"}, headers=headers),
        outside.http.post("/api/payments/txn_1/refunds", json={"amount": 1}, headers=headers),
        outside.http.get("/api/payments/refunds", params={"key": "k"}, headers=headers),
    ]

    assert [(call.status_code, at_b.error(call)) for call in calls] == [(401, ("unauthorized", None))] * 4
    assert calls[0].headers["www-authenticate"] == "Bearer"
    assert outside.ledger() == []


def test_the_key_may_stand_in_the_secrets_file(tmp_path: Path):
    (tmp_path / "secrets.json").write_text(json.dumps({"sandbox": {"payment-b-key": "filed"}}))

    with running(settings_in(tmp_path, payment_b_key="")) as outside:
        assert charge(outside, "filed").status_code == 200
        assert charge(outside, "other").status_code == 401


def test_the_environment_goes_before_the_secrets_file(tmp_path: Path):
    (tmp_path / "secrets.json").write_text(json.dumps({"sandbox": {"payment-b-key": "filed"}}))

    with running(settings_in(tmp_path)) as outside:
        assert charge(outside, "filed").status_code == 401
        assert charge(outside, B_KEY).status_code == 200


def test_without_a_key_of_its_own_b_takes_any_but_none_and_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with running(settings_in(tmp_path, payment_b_key="")) as outside:
        assert charge(outside, "whatever").status_code == 200
        assert charge(outside, "").status_code == 401

    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == ["payment-b.any-key"]


def test_b_knows_after_a_restart_what_it_knew(tmp_path: Path):
    settings = settings_in(tmp_path)
    with running(settings) as outside:
        at_b = MerchantAtB(outside)
        paid = at_b.charge(key="k", amount="0.900", currency="KWD").json()
        refund = at_b.refund(paid["transactionId"], "0.899", key="r").json()
        ledger = outside.ledger()

    with running(settings) as outside:
        at_b = MerchantAtB(outside)
        assert outside.ledger() == ledger
        assert at_b.charge(key="k", amount="0.900", currency="KWD").json() == paid
        assert at_b.find_refund("r").json() == refund
        late = at_b.refund(paid["transactionId"], "0.002")
        assert at_b.error(late) == ("refund_exceeds_charge", None)
        assert "tok_" not in (tmp_path / "payment-b.jsonl").read_text()


def charge(outside: Outside, key: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}".strip()}
    return outside.http.post("/api/payments", content=exact(BODY), headers=headers)
