"""The legacy SMS provider."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.records import Journal
from sandbox.sms import Text, Texts
from sandbox.sms_legacy import status_after

from .conftest import LEGACY_KEY, Outside
from .receiver import await_that

ADA, BOB = "+254711000111", "+260971000222"
HEADERS = {"X-Api-Key": LEGACY_KEY}


def a_text(to: str = ADA, text: str = "It is ready.") -> dict[str, str]:
    return {"PhoneNumber": to, "MessageText": text, "Sender": "Brewline"}


def send_bulk(outside: Outside, body: object, *, key: str = "") -> httpx.Response:
    keyed = {"Idempotency-Key": key} if key else {}
    return outside.http.post("/legacy/sms/send-bulk", json=body, headers=HEADERS | keyed)


def status(outside: Outside, transaction_id: str) -> dict[str, Any]:
    params = {"transactionId": transaction_id}
    return outside.http.get("/legacy/sms/status", params=params, headers=HEADERS).json()


def test_a_text_is_taken_and_shown(outside: Outside):
    answer = outside.legacy_text(ADA, MessageText="Ready ☕")

    said = answer.json()
    transaction_id = said.pop("TransactionId")
    assert transaction_id.startswith("LEG-")
    assert (answer.status_code, said) == (
        200,
        {"IsSuccess": True, "ErrorDescription": None, "ChargedAmount": 0.035},
    )
    [shown] = outside.texts()
    assert shown.pop("at").endswith("Z")
    assert shown == {
        "provider": "legacy",
        "to": ADA,
        "from": "Brewline",
        "text": "Ready ☕",
        "messageId": transaction_id,
    }


@pytest.mark.parametrize(
    ("number", "error"),
    [("+254711000403", "InvalidNumber"), ("0711000111", "InvalidNumber"), ("+254711000599", "InternalError")],
)
def test_a_text_may_be_refused(outside: Outside, number: str, error: str):
    answer = outside.legacy_text(number)

    refused = {"IsSuccess": False, "TransactionId": None, "ErrorDescription": error, "ChargedAmount": None}
    assert (answer.status_code, answer.json()) == (200, refused)
    assert outside.texts() == []


def test_what_africas_talking_cannot_route_is_taken(outside: Outside):
    assert outside.legacy_text("+254711000407").json()["IsSuccess"] is True


def test_many_are_taken_in_their_order(outside: Outside):
    said = send_bulk(outside, [a_text(ADA), a_text("nobody"), a_text(BOB)]).json()

    assert [one["IsSuccess"] for one in said] == [True, False, True]
    assert [text["to"] for text in outside.texts()] == [BOB, ADA]
    assert [text["messageId"] for text in outside.texts()] == [said[2]["TransactionId"], said[0]["TransactionId"]]


def test_one_key_is_one_text(outside: Outside):
    first = outside.legacy_text(key="k")

    assert outside.legacy_text(key="k").json() == first.json()
    assert outside.legacy_text(key="k", MessageText="Another").status_code == 422
    assert send_bulk(outside, [a_text()], key="k").status_code == 422
    assert len(outside.texts()) == 1


def test_one_key_is_one_answer_even_if_it_was_no(outside: Outside):
    first = outside.legacy_text("nobody", key="k").json()

    assert outside.legacy_text("nobody", key="k").json() == first
    assert outside.legacy_text(ADA, key="k").status_code == 422


def test_one_key_is_one_list(outside: Outside):
    first = send_bulk(outside, [a_text(ADA), a_text("nobody")], key="k").json()

    assert send_bulk(outside, [a_text(ADA), a_text("nobody")], key="k").json() == first
    assert send_bulk(outside, [a_text(ADA)], key="k").status_code == 422
    assert len(outside.texts()) == 1


def test_without_a_key_every_call_is_a_text(outside: Outside):
    assert outside.legacy_text().json() != outside.legacy_text().json()
    assert len(outside.texts()) == 2


@pytest.mark.parametrize(("number", "final"), [(ADA, "Delivered"), ("+254711009901", "Failed")])
def test_a_text_can_be_followed_to_its_end(outside: Outside, number: str, final: str):
    transaction_id = outside.legacy_text(number).json()["TransactionId"]

    await_that(lambda: status(outside, transaction_id) == {"transactionId": transaction_id, "status": final})


@pytest.mark.parametrize(
    ("milliseconds", "said"), [(0, "Queued"), (99, "Queued"), (100, "Sent"), (299, "Sent"), (300, "Delivered")]
)
def test_a_text_is_queued_and_sent_before_it_is_delivered(milliseconds: int, said: str):
    text = Text(to=ADA, sender="x", text="y", message_id="LEG-1")

    assert status_after(text, timedelta(milliseconds=milliseconds)) == said


def test_a_text_nobody_knows_is_not_found(outside: Outside):
    outside.text()
    of_another = outside.texts()[0]["messageId"]

    for transaction_id in ("LEG-1", "", of_another):
        params = {"transactionId": transaction_id}
        answer = outside.http.get("/legacy/sms/status", params=params, headers=HEADERS)
        assert (answer.status_code, answer.json()["ErrorCode"]) == (404, "not_found")


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": "another"}, {"Authorization": f"Bearer {LEGACY_KEY}"}])
def test_a_stranger_is_turned_away(outside: Outside, headers: dict[str, str]):
    calls: list[Callable[[], httpx.Response]] = [
        lambda: outside.http.post("/legacy/sms/send", json=a_text(), headers=headers),
        lambda: outside.http.post("/legacy/sms/send-bulk", json=[a_text()], headers=headers),
        lambda: outside.http.get("/legacy/sms/status", params={"transactionId": "x"}, headers=headers),
    ]

    assert [call().status_code for call in calls] == [401, 401, 401]
    assert outside.texts() == []


@pytest.mark.parametrize(
    ("change", "field"),
    [({"PhoneNumber": ""}, "PhoneNumber"), ({"MessageText": None}, "MessageText"), ({"Sender": 7}, "Sender")],
)
def test_a_bad_text_is_refused(outside: Outside, change: dict[str, Any], field: str):
    answer = outside.http.post("/legacy/sms/send", json=a_text() | change, headers=HEADERS)

    assert (answer.status_code, answer.json()["Field"]) == (422, field)
    assert answer.json()["IsSuccess"] is False


@pytest.mark.parametrize("body", [[], {}, [a_text(), {}], [a_text()] * 1001])
def test_a_bad_list_is_refused_as_a_whole(outside: Outside, body: object):
    assert send_bulk(outside, body).status_code == 422
    assert outside.texts() == []


def test_its_faults_are_its_own(outside: Outside):
    outside.set_fault("sms-legacy", "error")

    assert outside.legacy_text().status_code == 503
    assert send_bulk(outside, [a_text()]).status_code == 503
    assert outside.text().status_code == 201


def test_after_a_lost_reply_the_key_gives_the_answer(outside: Outside):
    outside.set_fault("sms-legacy", "lost-reply", count=1)

    with pytest.raises(httpx.RemoteProtocolError):
        outside.legacy_text(key="k")
    assert outside.legacy_text(key="k").json()["TransactionId"] == outside.texts()[0]["messageId"]
    assert len(outside.texts()) == 1


def test_a_key_dies_with_its_day(tmp_path: Path):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    texts = Texts(journal=Journal(tmp_path / "sms.jsonl"), key_ttl=timedelta(hours=24), clock=lambda: now)
    kept = texts.keep("legacy", [Text(to=ADA, sender="x", text="y", message_id="LEG-1")], key="k")

    now += timedelta(hours=23)
    assert texts.under("k") == kept
    now += timedelta(hours=1)
    assert texts.under("k") is None
    assert texts.found("legacy", "LEG-1") == (kept.texts[0], timedelta(hours=24))
