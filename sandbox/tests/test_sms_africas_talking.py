"""Africa's Talking, spoken to by its own client, and over the bare wire where that client doesn't go."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from africastalking.Service import AfricasTalkingException
from africastalking.SMS import SMSService

from sandbox.sms_africas_talking import CODES

from .conftest import AT_KEY, Outside, running, settings_in

ADA, BOB, EVE = "+254711000111", "+260971000222", "+12025550123"


def a_client(outside: Outside, key: str = AT_KEY) -> SMSService:
    client = SMSService("brewline", key)
    # Premium texts go to another host, for which the one sandbox stands too.
    client._baseUrl = client._contentUrl = f"http://127.0.0.1:{outside.settings.app_port}/version1"
    return client


def in_full(answer: Any) -> dict[str, Any]:
    return answer["SMSMessageData"]


def test_the_vendors_client_sends_to_one(outside: Outside):
    said = in_full(a_client(outside).send("Ready ☕", [ADA], sender_id="Brewline"))

    [recipient] = said["Recipients"]
    message_id = recipient.pop("messageId")
    assert message_id.startswith("ATXid_")
    assert recipient == {"statusCode": 101, "number": ADA, "status": "Success", "cost": "KES 0.8000"}
    assert said["Message"] == "Sent to 1/1 Total Cost: KES 0.8000"
    [text] = outside.texts()
    assert text.pop("at").endswith("Z")
    assert text == {
        "provider": "africas-talking",
        "to": ADA,
        "from": "Brewline",
        "text": "Ready ☕",
        "messageId": message_id,
    }


def test_the_vendors_client_sends_to_several(outside: Outside):
    said = in_full(a_client(outside).send("Ready", [ADA, BOB, "+254711000406", EVE], enqueue=True))

    assert said["Message"] == "Sent to 3/4 Total Cost: KES 2.4000"
    assert [(one["number"], one["statusCode"]) for one in said["Recipients"]] == [
        (ADA, 101),
        (BOB, 101),
        ("+254711000406", 406),
        (EVE, 101),
    ]
    assert len({one["messageId"] for one in said["Recipients"]}) == 4
    assert [text["to"] for text in outside.texts()] == [EVE, BOB, ADA]
    assert {text["from"] for text in outside.texts()} == {"AFRICASTKNG"}


def test_the_vendors_client_sends_a_premium_text(outside: Outside):
    said = in_full(
        a_client(outside).send_premium("Answer", "22384", [ADA], link_id="link-1", retry_duration_in_hours=1)
    )

    assert [one["statusCode"] for one in said["Recipients"]] == [101]
    assert outside.texts()[0]["from"] == "22384"


def test_the_vendors_client_fetches_what_came_in(outside: Outside):
    client = a_client(outside)
    assert in_full(client.fetch_messages())["Messages"] == []
    for text in ("STOP", "START"):
        outside.http.post("/sandbox/sms/inbound", json={"from": ADA, "text": text, "to": "22384"})

    first, second = in_full(client.fetch_messages())["Messages"]
    assert first.pop("date").endswith("Z")
    assert first.pop("linkId")
    assert isinstance(first["id"], int)
    assert first == {"id": first["id"], "text": "STOP", "to": "22384", "from": ADA}
    assert in_full(client.fetch_messages(first["id"]))["Messages"] == [second]
    assert in_full(client.fetch_messages(second["id"]))["Messages"] == []


def test_what_came_in_is_fetched_a_hundred_at_a_time_and_no_id_comes_back(outside: Outside):
    client = a_client(outside)
    for _ in range(101):
        outside.http.post("/sandbox/sms/inbound", json={"from": ADA, "text": "STOP"})

    ids = [one["id"] for one in in_full(client.fetch_messages())["Messages"]]
    assert len(ids) == 100
    assert ids == sorted(set(ids))
    [last] = in_full(client.fetch_messages(ids[-1]))["Messages"]

    outside.http.delete("/sandbox/data")
    assert in_full(client.fetch_messages())["Messages"] == []
    again = outside.http.post("/sandbox/sms/inbound", json={"from": ADA, "text": "STOP"}).json()
    assert again["id"] > last["id"]


def test_the_vendors_client_is_turned_away_with_another_key(outside: Outside):
    stranger = a_client(outside, "another key")

    with pytest.raises(AfricasTalkingException, match=r"^The supplied authentication is invalid$"):
        stranger.send("Ready", [ADA])
    with pytest.raises(AfricasTalkingException, match="authentication is invalid"):
        stranger.fetch_messages()
    assert outside.texts() == []


def test_a_caller_without_a_key_or_with_a_strange_one_is_turned_away(outside: Outside):
    for key in ("", "schlüssel"):
        answer = outside.http.post("/version1/messaging", data={}, headers={b"apiKey": key.encode()})
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (401, "text/plain")


@pytest.mark.parametrize("code", CODES)
def test_a_number_meets_the_code_it_ends_in(outside: Outside, code: int):
    accepted = code <= 102
    number = f"+25471100{code:04}"

    answer = outside.text(number)

    assert answer.status_code == 201
    said = in_full(answer.json())
    [recipient] = said["Recipients"]
    message_id = recipient.pop("messageId")
    assert (message_id != "None") == accepted
    assert recipient == {
        "statusCode": code,
        "number": number,
        "status": "Success" if accepted else CODES[code],
        "cost": "KES 0.8000" if accepted else "0",
    }
    assert said["Message"] == ("Sent to 1/1 Total Cost: KES 0.8000" if accepted else "Sent to 0/1 Total Cost: 0")
    assert [text["messageId"] for text in outside.texts()] == ([message_id] if accepted else [])


@pytest.mark.parametrize("number", ["0711000111", "+254", "+0711000111", "nobody", "", "+2547110001112223"])
def test_what_is_no_number_is_an_invalid_one_among_the_others(outside: Outside, number: str):
    said = in_full(outside.text(ADA, number).json())

    assert [(one["number"], one["statusCode"]) for one in said["Recipients"]] == [(ADA, 101), (number, 403)]


@pytest.mark.parametrize("sender", ["InvalidOne", "twelve chars", "Grüße", "<b>"])
def test_an_unregistered_sender_fails_the_whole_request(outside: Outside, sender: str):
    answer = outside.text(ADA, BOB, **{"from": sender})

    assert answer.status_code == 201
    assert answer.json() == {"SMSMessageData": {"Message": "InvalidSenderId", "Recipients": []}}
    assert outside.texts() == []


@pytest.mark.parametrize("field", ["username", "to", "message"])
def test_a_field_that_is_missing_is_a_bad_request(outside: Outside, field: str):
    answer = outside.text(**{field: ""})

    assert (answer.status_code, answer.text) == (400, f"Request is missing required form field '{field}'")


def test_json_is_not_understood(outside: Outside):
    body = {"username": "brewline", "to": ADA, "message": "Ready"}

    assert outside.http.post("/version1/messaging", json=body, headers={"apiKey": AT_KEY}).status_code == 415


def test_there_are_no_idempotency_keys(outside: Outside):
    for _ in range(2):
        outside.http.post(
            "/version1/messaging",
            data={"username": "brewline", "to": ADA, "message": "Ready"},
            headers={"apiKey": AT_KEY, "Idempotency-Key": "k"},
        )

    assert len(outside.texts()) == 2


def test_the_texts_to_one_number_can_be_seen(outside: Outside):
    outside.text(ADA, BOB, ADA)

    assert [text["to"] for text in outside.texts(to=ADA)] == [ADA, ADA]
    assert [text["to"] for text in outside.texts(to=ADA, limit=1)] == [ADA]
    assert outside.texts(to=EVE) == []


@pytest.mark.parametrize(
    "bad", [{"from": "nobody"}, {"text": ""}, {"text": "x" * 1601}, {"to": ""}, {"linkId": "x"}, {"from": None}]
)
def test_a_text_that_nobody_could_write_is_refused(outside: Outside, bad: dict[str, Any]):
    body = {"from": ADA, "text": "STOP"} | bad

    assert outside.http.post("/sandbox/sms/inbound", json=body).status_code == 422


@pytest.mark.parametrize("params", [{}, {"username": "brewline", "lastReceivedId": "first"}])
def test_fetching_needs_a_user_and_an_id(outside: Outside, params: dict[str, str]):
    answer = outside.http.get("/version1/messaging", params=params, headers={"apiKey": AT_KEY})

    assert answer.is_client_error


def test_an_account_may_pay_in_another_currency(tmp_path: Path):
    with running(settings_in(tmp_path, sms_price="ZMW 0.3100")) as outside:
        said = in_full(outside.text(ADA, BOB).json())

    assert said["Message"] == "Sent to 2/2 Total Cost: ZMW 0.6200"
    assert {one["cost"] for one in said["Recipients"]} == {"ZMW 0.3100"}


def test_the_keys_may_stand_in_the_secrets_file(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    known = {"africas-talking-key": "filed", "legacy-sms-key": "filed too"}
    (tmp_path / "secrets.json").write_text(json.dumps({"sandbox": known}))
    with running(settings_in(tmp_path, africas_talking_key="", legacy_sms_key="")) as outside:
        assert outside.text(key=AT_KEY).status_code == 401
        assert outside.text(key="filed").status_code == 201
        status = outside.http.get("/legacy/sms/status", headers={"X-Api-Key": "filed too"})
        assert status.status_code == 404

    assert caplog.records == []


def test_without_keys_of_their_own_the_providers_let_anybody_in_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with running(settings_in(tmp_path, africas_talking_key="", legacy_sms_key="")) as outside:
        assert outside.text(key="whichever").status_code == 201
        assert outside.text(key="").status_code == 401
        assert outside.legacy_text().status_code == 200

    assert [record.getMessage() for record in caplog.records] == ["africas-talking.any-key", "legacy-sms.any-key"]


@pytest.mark.parametrize(
    ("fault", "status"),
    [({"mode": "error"}, 503), ({"mode": "error", "status": 500}, 500), ({"mode": "throttle"}, 429)],
)
def test_africas_talking_may_fail_and_the_legacy_provider_goes_on(outside: Outside, fault: dict[str, Any], status: int):
    outside.set_fault("sms", **fault)

    assert outside.text().status_code == status
    assert outside.legacy_text().json()["IsSuccess"] is True
    assert [text["provider"] for text in outside.texts()] == ["legacy"]


@pytest.mark.parametrize("fault", [{"mode": "reset"}, {"mode": "timeout", "delayMs": 50}])
def test_a_call_that_is_cut_off_sends_nothing(outside: Outside, fault: dict[str, Any]):
    outside.set_fault("sms", **fault)

    with pytest.raises(httpx.TransportError):
        outside.text()
    assert outside.texts() == []


def test_a_lost_reply_is_a_text_that_was_sent(outside: Outside):
    outside.set_fault("sms", "lost-reply", count=1)

    with pytest.raises(httpx.RemoteProtocolError):
        outside.text(ADA)
    assert [text["to"] for text in outside.texts()] == [ADA]
    assert outside.text(ADA).status_code == 201
    assert len(outside.texts()) == 2
