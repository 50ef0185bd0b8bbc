"""Every fault as a caller meets it."""

import random
import socket
import time
from collections import Counter
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from sandbox.app import TARGETS
from sandbox.faults import Fault, Faults

from .conftest import Outside


def a_refund(outside: Outside) -> httpx.Response:
    transaction = outside.charge(orderId="before").json()["transactionId"]
    assert outside.set_fault("payment-a", "error").status_code == 200
    return outside.refund(transaction, "1.00", key="r")


def test_an_error_is_503_and_saves_nothing(outside: Outside):
    outside.set_fault("payment-a", "error")

    assert outside.charge(key="k").status_code == 503
    assert outside.find_charge("k").status_code == 503
    assert outside.ledger() == []


def test_an_error_meets_refunds_too(outside: Outside):
    assert a_refund(outside).status_code == 503
    assert [entry["kind"] for entry in outside.ledger()] == ["charge"]


def test_an_error_can_have_another_status(outside: Outside):
    outside.set_fault("payment-a", "error", status=400)

    assert outside.charge().status_code == 400


def test_a_throttled_caller_is_told_when_to_come_back(outside: Outside):
    outside.set_fault("payment-a", "throttle")

    answer = outside.charge(key="k")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert outside.ledger() == []


def test_a_reset_is_a_tcp_reset(outside: Outside):
    outside.set_fault("payment-a", "reset")

    with pytest.raises(httpx.ReadError, match="reset by peer"):
        outside.charge(key="k")
    assert outside.ledger() == []


def test_a_time_out_holds_the_call_and_then_drops_it(outside: Outside):
    outside.set_fault("payment-a", "timeout", delayMs=150)
    began = time.monotonic()

    with pytest.raises(httpx.RemoteProtocolError):
        outside.charge(key="k")

    assert time.monotonic() - began >= 0.15
    assert outside.ledger() == []


def test_a_caller_may_give_up_on_a_held_call(outside: Outside):
    outside.set_fault("payment-a", "timeout")

    with pytest.raises(httpx.ReadTimeout):
        outside.http.get("/api/v1/payment", params={"key": "k"}, timeout=0.1)

    # The fixture fails on any error that this made the sandbox log.
    assert outside.http.get("/health/live").status_code == 200


@pytest.mark.parametrize("mode", ["reset", "error", "throttle", "lost-reply"])
def test_a_caller_may_give_up_before_the_fault_strikes(outside: Outside, mode: str):
    outside.set_fault("push", mode, delayMs=120)
    outside.set_fault("payment-a", "ok", delayMs=200)

    with pytest.raises(httpx.ReadTimeout):
        outside.http.post("/api/v1/notification", content=b"{}", timeout=0.03)

    # Comes after the other delay is over; the fixture fails on any error logged by then.
    assert outside.find_charge("k").status_code == 404


def test_a_lost_reply_is_done_work_and_look_ups_still_answer(outside: Outside):
    outside.set_fault("payment-a", "lost-reply")

    with pytest.raises(httpx.RemoteProtocolError):
        outside.charge(key="k")

    found = outside.find_charge("k")
    assert (found.status_code, found.json()["status"]) == (200, "approved")
    with pytest.raises(httpx.RemoteProtocolError):
        outside.refund(found.json()["transactionId"], "9.00", key="r")
    assert outside.http.get("/api/v1/payment/refunds", params={"key": "r"}).status_code == 200
    assert [entry["kind"] for entry in outside.ledger()] == ["charge", "refund"]


def test_the_replay_of_a_lost_reply_is_answered_once_all_is_well(outside: Outside):
    outside.set_fault("payment-a", "lost-reply", count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        outside.charge(key="k")

    assert outside.charge(key="k").json()["status"] == "approved"
    assert len(outside.ledger()) == 1


def test_slow_work_is_answered_late(outside: Outside):
    outside.set_fault("payment-a", "ok", delayMs=120)
    began = time.monotonic()

    assert outside.charge().json()["status"] == "approved"
    assert time.monotonic() - began >= 0.12


def test_slow_work_is_done_even_if_the_caller_gives_up(outside: Outside):
    outside.set_fault("payment-a", "ok", delayMs=150, count=1)
    body = b'{"orderId":"o-1","amount":9.00,"currency":"USD","paymentMethod":"x"}'
    head = f"POST /api/v1/payment HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", outside.settings.app_port)) as caller:
        caller.sendall(head.encode() + body)

    deadline = time.monotonic() + 4
    while not outside.ledger() and time.monotonic() < deadline:
        time.sleep(0.01)

    assert [entry["idempotencyKey"] for entry in outside.ledger()] == ["k"]


def test_a_count_is_used_up(outside: Outside):
    outside.set_fault("payment-a", "error", count=2)

    assert outside.charge().status_code == 503
    assert outside.http.get("/sandbox/faults").json()["payment-a"]["count"] == 1
    assert [outside.charge().status_code for _ in range(2)] == [503, 200]
    assert outside.http.get("/sandbox/faults").json()["payment-a"]["mode"] == "ok"


def test_a_look_up_does_not_use_up_a_lost_reply(outside: Outside):
    outside.set_fault("payment-a", "lost-reply", count=1)

    assert outside.find_charge("k").status_code == 404
    with pytest.raises(httpx.RemoteProtocolError):
        outside.charge(key="k")


def test_a_rate_spares_the_calls_that_are_lucky():
    chances = iter([0.29, 0.3, 0.9, 0.0])
    faults = Faults(["push"], chance=lambda: next(chances))
    faults.set("push", Fault(mode="error", rate=0.3))

    assert [faults.strike("push") is not None for _ in range(4)] == [True, False, False, True]


def test_a_rate_of_one_spares_nobody_and_of_zero_everybody():
    faults = Faults(["push"], chance=lambda: 0.0)
    faults.set("push", Fault(mode="error", rate=0))
    assert faults.strike("push") is None

    faults = Faults(["push"], chance=lambda: 0.999999)
    faults.set("push", Fault(mode="error"))
    assert faults.strike("push")


def test_a_call_is_hit_by_one_fault_of_a_mixture_at_most_each_by_its_share():
    chances = iter([0.0, 0.19, 0.2, 0.49, 0.5, 0.99])
    faults = Faults(["push"], chance=lambda: next(chances))
    faults.set("push", [Fault(mode="error", rate=0.2), Fault(mode="throttle", rate=0.3)])

    hits = [faults.strike("push") for _ in range(6)]

    assert [hit and hit.mode for hit in hits] == ["error", "error", "throttle", "throttle", None, None]


def test_the_shares_of_a_mixture_come_true():
    faults = Faults(["push"], chance=random.Random(7).random)  # noqa: S311  # the same ones each time
    shares = {"error": 0.1, "timeout": 0.05, "lost-reply": 0.25, "reset": 0.2}
    faults.set("push", [Fault.model_validate({"mode": mode, "rate": rate}) for mode, rate in shares.items()])

    hits = Counter(fault.mode if (fault := faults.strike("push")) else "spared" for _ in range(20_000))

    assert {mode: round(hits[mode] / 20_000, 2) for mode in shares} == pytest.approx(shares, abs=0.011)
    assert hits["spared"] / 20_000 == pytest.approx(0.4, abs=0.02)


def test_look_ups_are_spared_by_the_lost_replies_of_a_mixture_alone():
    faults = Faults(["push"], chance=iter([0.1, 0.6]).__next__)
    faults.set("push", [Fault(mode="lost-reply", rate=0.5), Fault(mode="error", rate=0.5)])

    hits = [faults.strike("push", can_lose_reply=False) for _ in range(2)]

    assert [hit and hit.mode for hit in hits] == [None, "error"]


def test_a_fault_of_a_mixture_that_is_used_up_leaves_the_others_their_shares():
    drawn = 0.0
    faults = Faults(["push"], chance=lambda: drawn)
    faults.set("push", [Fault(mode="error", rate=0.5, count=2), Fault(mode="throttle", rate=0.4, count=1)])

    assert [hit.mode for _ in range(2) if (hit := faults.strike("push"))] == ["error", "error"]
    assert faults.shown()["push"] == [Fault(mode="throttle", rate=0.4, count=1)]
    drawn = 0.4
    assert faults.strike("push") is None
    drawn = 0.3
    assert faults.strike("push")
    assert faults.shown()["push"] == Fault()


def test_a_mixture_is_set_shown_and_cleared_over_http(outside: Outside):
    mixture = [{"mode": "error", "rate": 0.5, "status": 500}, {"mode": "throttle", "rate": 0.5}]
    put = outside.http.put("/sandbox/faults/push", json=mixture)

    assert put.status_code == 200
    assert outside.http.get("/sandbox/faults").json()["push"] == put.json()
    assert [(fault["mode"], fault["rate"], fault["status"]) for fault in put.json()] == [
        ("error", 0.5, 500),
        ("throttle", 0.5, None),
    ]
    assert {outside.push().status_code for _ in range(40)} == {500, 429}
    assert "<td>push</td><td>throttle</td>" in outside.http.get("/", headers={"accept": "text/html"}).text

    assert outside.http.put("/sandbox/faults/push", json=[]).json() == []
    assert outside.push().status_code == 202


@pytest.mark.parametrize(
    "bad", [[{"mode": "error", "rate": 0.6}, {"mode": "reset", "rate": 0.41}], [{}, {}], [{"mode": "explode"}]]
)
def test_a_mixture_that_makes_no_sense_is_refused(outside: Outside, bad: list[dict[str, Any]]):
    assert outside.http.put("/sandbox/faults/push", json=bad).status_code == 422
    assert outside.push().status_code == 202


def test_ten_tenths_are_a_whole(outside: Outside):
    assert outside.http.put("/sandbox/faults/push", json=[{"mode": "ok", "rate": 0.1}] * 10).status_code == 200


def test_a_fault_stays_with_its_target(outside: Outside):
    outside.set_fault("payment-a", "error")

    assert outside.push().status_code == 202
    outside.set_fault("push", "throttle")
    assert outside.push().status_code == 429
    assert outside.http.get("/sandbox/push").json()[0]["orderId"] == "o-1"


def test_faults_are_shown_and_cleared(outside: Outside):
    put = outside.set_fault("smtp", "error", status=550, rate=0.5, count=3, delayMs=10)
    wanted = {"mode": "error", "status": 550, "delayMs": 10, "rate": 0.5, "count": 3}
    well = {"mode": "ok", "status": None, "delayMs": None, "rate": 1.0, "count": None}

    assert (put.status_code, put.json()) == (200, wanted)
    assert outside.http.get("/sandbox/faults").json() == dict.fromkeys(TARGETS, well) | {"smtp": wanted}

    outside.http.delete("/sandbox/faults")
    assert outside.http.get("/sandbox/faults").json()["smtp"] == well


def test_forgetting_the_data_leaves_the_faults(outside: Outside):
    outside.set_fault("push", "error")
    outside.http.delete("/sandbox/data")

    assert outside.push().status_code == 503


def test_a_target_this_sandbox_does_not_have_is_not_found(outside: Outside):
    answer = outside.set_fault("fax", "error")

    assert answer.status_code == 404
    assert ", ".join(sorted(TARGETS)) in answer.json()["error"]


@pytest.mark.parametrize(
    "bad",
    [
        {"mode": "explode"},
        {"status": 200},
        {"rate": 1.1},
        {"count": 0},
        {"delayMs": -1},
        {"delay": 5},
        # It would still be working when everybody has to believe that nothing will come of it any more.
        {"mode": "ok", "delayMs": 25_001},
        {"mode": "lost-reply", "delayMs": 25_001},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(outside: Outside, bad: dict[str, Any]):
    assert outside.http.put("/sandbox/faults/push", json={"mode": "error"} | bad).status_code == 422
    with pytest.raises(ValidationError):
        Fault.model_validate({"mode": "error"} | bad)


def test_a_fault_may_come_without_a_content_type(outside: Outside):
    assert outside.http.put("/sandbox/faults/push", content=b'{"mode": "error"}').status_code == 200
