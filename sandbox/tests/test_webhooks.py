"""Webhooks as their receiver meets them."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from sandbox.webhooks import Mode

from .conftest import MERCHANTS, Merchant, Outside, running, settings_in
from .receiver import KEYS, SECRETS, Receiver, await_that, receiving


@pytest.fixture(scope="module")
def _pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Receiver, Outside]]:
    with receiving() as receiver:
        settings = settings_in(
            tmp_path_factory.mktemp("sandbox"),
            webhook_url=f"{receiver.url}/",
            provider_webhook_secrets=json.dumps(SECRETS),
        )
        with running(settings) as outside:
            yield receiver, outside


@pytest.fixture
def sender(_pair: tuple[Receiver, Outside]) -> Outside:
    """A sandbox that sends to `receiver`."""
    receiver, outside = _pair
    outside.reset()
    receiver.clean()
    return outside


@pytest.fixture
def receiver(_pair: tuple[Receiver, Outside], sender: Outside) -> Receiver:  # noqa: ARG001  # which cleans it
    return _pair[0]


@pytest.fixture(params=MERCHANTS)
def merchant(request: pytest.FixtureRequest, sender: Outside) -> Merchant:
    return MERCHANTS[request.param](sender)


def set_manner(sender: Outside, mode: Mode, **fields: int) -> None:
    assert sender.http.put("/sandbox/webhooks", json={"mode": mode, **fields}).status_code == 200


def deliveries(sender: Outside) -> list[dict[str, Any]]:
    return sender.http.get("/sandbox/webhooks").json()["deliveries"]


def test_a_charge_is_announced_and_signed(receiver: Receiver, merchant: Merchant):
    said = merchant.said(merchant.charge(key="k", amount="9.00"))

    receiver.await_taken(1)
    [(path, headers, body)] = receiver.taken
    assert (path, headers["content-type"]) == (f"/hooks/{merchant.name}", "application/json")
    assert headers["webhook-id"].startswith("msg_")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    mac = base64.b64encode(hmac.new(KEYS[merchant.name], signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{mac}"
    message = json.loads(body)
    assert datetime.fromisoformat(message.pop("timestamp")).tzinfo == UTC
    assert message == {
        "type": "charge.approved",
        "data": {
            "idempotencyKey": "k",
            "transactionId": said.transaction_id,
            "status": "approved",
            "reason": None,
            "amount": "9.00",
            "currency": "USD",
        },
    }


def test_a_decline_and_a_refund_are_announced(receiver: Receiver, merchant: Merchant):
    merchant.charge(key="d", token="tok_insufficient_funds")
    receiver.await_taken(1)
    paid = merchant.said(merchant.charge(key="c")).transaction_id
    receiver.await_taken(2)
    refund = merchant.refund(str(paid), "2.50", key="r").json()["refundId"]
    receiver.await_taken(3)

    declined, _, refunded = receiver.bodies
    assert declined["type"] == "charge.declined"
    assert (declined["data"]["status"], declined["data"]["reason"]) == ("declined", "insufficient_funds")
    assert (refunded["type"], refunded["data"]) == (
        "refund.succeeded",
        {
            "idempotencyKey": "r",
            "transactionId": paid,
            "refundId": refund,
            "status": "succeeded",
            "reason": None,
            "amount": "2.50",
            "currency": "USD",
        },
    )


def test_what_is_only_answered_again_or_refused_is_not_announced_again(receiver: Receiver, merchant: Merchant):
    paid = str(merchant.said(merchant.charge(key="k")).transaction_id)
    merchant.refund(paid, "9.00", key="r")
    receiver.await_taken(2)
    merchant.charge(key="k")
    merchant.charge(key="k", amount="1.00")
    merchant.charge(key="f", token="tok_flaky")
    merchant.refund(paid, "9.00", key="r")
    merchant.refund(paid, "9.00", key="r2")
    merchant.find_charge("k")
    merchant.charge(key="last")

    receiver.await_taken(3)
    assert sorted(body["data"]["idempotencyKey"] for body in receiver.bodies) == ["k", "last", "r"]


def test_a_charge_whose_reply_is_lost_is_announced_all_the_same(
    sender: Outside, receiver: Receiver, merchant: Merchant
):
    with pytest.raises(httpx.RemoteProtocolError):
        merchant.charge(key="card", token="tok_lost_reply")
    sender.set_fault(merchant.target, "lost-reply")
    with pytest.raises(httpx.RemoteProtocolError):
        merchant.charge(key="fault")

    receiver.await_taken(2)
    assert {body["data"]["idempotencyKey"] for body in receiver.bodies} == {"card", "fault"}


def test_a_slow_receiver_does_not_delay_the_answer(receiver: Receiver, merchant: Merchant):
    receiver.gate.clear()

    merchant.charge()

    assert receiver.taken == []
    receiver.gate.set()
    receiver.await_taken(1)


def test_a_webhook_that_failed_comes_again_under_its_id(sender: Outside, receiver: Receiver):
    receiver.statuses = [500]
    sender.charge(key="k")

    receiver.await_taken(2)
    [(_, first, body), (_, second, again)] = receiver.taken
    assert (first["webhook-id"], body) == (second["webhook-id"], again)
    assert int(second["webhook-timestamp"]) > int(first["webhook-timestamp"])
    assert first["webhook-signature"] != second["webhook-signature"]
    await_that(lambda: len(deliveries(sender)[0]["statusCodes"]) == 2)
    [shown] = deliveries(sender)
    assert shown.pop("at").endswith("Z")
    assert shown == {
        "id": first["webhook-id"],
        "provider": "a",
        "type": "charge.approved",
        "key": "k",
        "statusCodes": [500, 204],
    }


def test_off_sends_nothing(sender: Outside, receiver: Receiver, merchant: Merchant):
    set_manner(sender, "off")
    merchant.charge(key="unsaid")
    set_manner(sender, "on")
    merchant.charge(key="said")

    receiver.await_taken(1)
    assert [body["data"]["idempotencyKey"] for body in receiver.bodies] == ["said"]
    assert [delivery["key"] for delivery in deliveries(sender)] == ["said"]


def test_early_is_before_the_answer(sender: Outside, receiver: Receiver, merchant: Merchant):
    set_manner(sender, "early", delayMs=150)

    merchant.charge(key="k")

    assert [body["data"]["idempotencyKey"] for body in receiver.bodies] == ["k"]


def test_duplicate_sends_each_twice_under_one_id(sender: Outside, receiver: Receiver, merchant: Merchant):
    set_manner(sender, "duplicate")
    merchant.charge()

    receiver.await_taken(2)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.taken}) == 1
    await_that(lambda: deliveries(sender)[0]["statusCodes"] == [204, 204])


def test_the_delay_passes_first(sender: Outside, receiver: Receiver):
    set_manner(sender, "on", delayMs=300)
    sender.charge()

    time.sleep(0.1)
    assert receiver.taken == []
    receiver.await_taken(1)


def test_forgetting_drops_what_is_under_way(sender: Outside, receiver: Receiver):
    set_manner(sender, "on", delayMs=200)
    sender.charge(key="dropped")
    sender.http.delete("/sandbox/data")
    assert deliveries(sender) == []

    sender.charge(key="kept")
    receiver.await_taken(1)
    assert [body["data"]["idempotencyKey"] for body in receiver.bodies] == ["kept"]


def test_the_manner_is_shown_and_ends_with_the_faults(sender: Outside, receiver: Receiver):
    set_manner(sender, "shuffled", delayMs=5)
    shown = sender.http.get("/sandbox/webhooks").json()
    assert shown == {"mode": "shuffled", "delayMs": 5, "url": receiver.url, "deliveries": []}

    sender.http.delete("/sandbox/faults")
    assert sender.http.get("/sandbox/webhooks").json()["mode"] == "on"


def test_the_deliveries_have_a_page(sender: Outside, receiver: Receiver, merchant: Merchant):
    merchant.charge(key="k-1")
    receiver.await_taken(1)

    assert "<td>k-1</td>" in sender.http.get("/sandbox/webhooks", headers={"accept": "text/html"}).text


@pytest.mark.parametrize("bad", [{"mode": "loud"}, {"delayMs": -1}, {"delay": 1}])
def test_a_manner_that_makes_no_sense_is_refused(sender: Outside, bad: dict[str, Any]):
    assert sender.http.put("/sandbox/webhooks", json=bad).status_code == 422


def test_without_a_url_none_are_sent(outside: Outside, caplog: pytest.LogCaptureFixture):
    outside.charge()

    assert outside.http.get("/sandbox/webhooks").json() == {"mode": "on", "delayMs": 0, "url": "", "deliveries": []}
    assert caplog.records == []


def test_without_a_secret_none_are_sent_and_one_warning_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with receiving() as receiver, running(settings_in(tmp_path, webhook_url=receiver.url)) as outside:
        outside.charge()
        outside.charge()
        assert deliveries(outside) == []

    assert [record.getMessage() for record in caplog.records] == ["webhooks.no-secret"]
    assert receiver.taken == []


def test_a_provider_without_a_secret_of_its_own_sends_none_and_the_newest_of_several_signs(tmp_path: Path):
    only_b = json.dumps({"b": f"{SECRETS['b']}, {SECRETS['a']}"})
    settings = settings_in(tmp_path, webhook_url="", provider_webhook_secrets=only_b)
    with receiving() as receiver, running(settings.model_copy(update={"webhook_url": receiver.url})) as outside:
        outside.charge()
        MERCHANTS["b"](outside).charge(key="k")
        receiver.await_taken(1)

    [(path, headers, body)] = receiver.taken
    assert path == "/hooks/b"
    Webhook(SECRETS["b"]).verify(body, headers)


def test_the_secret_may_stand_in_the_secrets_file(tmp_path: Path):
    (tmp_path / "secrets.json").write_text(json.dumps({"sandbox": {"provider-webhook-secrets": json.dumps(SECRETS)}}))
    with receiving() as receiver, running(settings_in(tmp_path, webhook_url=receiver.url)) as outside:
        outside.charge()
        receiver.await_taken(1)


def test_stopping_drops_what_is_under_way_and_is_quick(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with receiving() as receiver:
        receiver.gate.clear()
        settings = settings_in(tmp_path, webhook_url=receiver.url, provider_webhook_secrets=json.dumps(SECRETS))
        with running(settings) as outside:
            outside.charge(key="being sent")
            set_manner(outside, "on", delayMs=60_000)
            outside.charge(key="waiting")
            began = time.monotonic()
        assert time.monotonic() - began < 10
        receiver.gate.set()

    assert caplog.records == []
