"""Receipts as their receiver meets them: delivery reports of texts, and texts that came in."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from fastapi import FastAPI
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from sandbox.courier import Courier, Delivery
from sandbox.receipts import Receipts
from sandbox.records import Journal
from sandbox.sms import Texts
from sandbox.sms_legacy import LegacySms

from .conftest import RECEIPT_SECRETS, Outside, running, settings_in
from .receiver import Receiver, await_that, receiving

ADA = "+254711000111"


@pytest.fixture
def receiver(outside: Outside) -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver
        outside.direct()


@pytest.fixture
def at(outside: Outside, receiver: Receiver) -> Receiver:
    """Receives what Africa's Talking reports."""
    outside.direct(africas_talking=f"{receiver.url}/at?secret=hush")
    return receiver


@pytest.fixture
def legacy(outside: Outside, receiver: Receiver) -> Receiver:
    """Receives what the legacy provider reports."""
    outside.direct(legacy=f"{receiver.url}/legacy")
    return receiver


def forms(receiver: Receiver) -> list[dict[str, str]]:
    return [dict(parse_qsl(body.decode(), strict_parsing=True)) for _, _, body in receiver.taken]


def statuses(receiver: Receiver) -> list[str]:
    return [form["status"] for form in forms(receiver)]


def events(receiver: Receiver, secret: str) -> list[dict[str, Any]]:
    """Verified by the specification's own library, which raises for what isn't signed with the secret."""
    return [Webhook(secret).verify(body, headers) for _, headers, body in receiver.taken]


def deliveries(outside: Outside) -> list[dict[str, Any]]:
    return outside.http.get("/sandbox/receipts").json()["deliveries"]


def settled(outside: Outside, *, tries: int) -> None:
    """Nothing is under way any more."""
    await_that(lambda: sum(len(one["statusCodes"]) for one in deliveries(outside)) >= tries)


def test_africas_talking_reports_first_how_far_it_is_and_then_the_end(outside: Outside, at: Receiver):
    [recipient] = outside.text(ADA).json()["SMSMessageData"]["Recipients"]

    at.await_taken(2)
    [(path, headers, _), _] = at.taken
    assert (path, headers["content-type"]) == ("/hooks/at?secret=hush", "application/x-www-form-urlencoded")
    assert "webhook-signature" not in headers
    told = {"id": recipient["messageId"], "phoneNumber": ADA, "networkCode": "63902"}
    assert forms(at) == [told | {"status": "Submitted"}, told | {"status": "Success"}]


@pytest.mark.parametrize(
    ("ending", "status", "reason"),
    [
        ("9901", "Failed", {"failureReason": "UserDoesNotExist"}),
        ("9904", "Rejected", {"failureReason": "UserInBlackList"}),
        ("9905", "AbsentSubscriber", {}),
        ("9906", "Expired", {}),
    ],
)
def test_a_number_may_stand_for_a_bad_end(
    outside: Outside, at: Receiver, ending: str, status: str, reason: dict[str, str]
):
    outside.text(f"+1202555{ending}")

    at.await_taken(2)
    told = {"id": outside.texts()[0]["messageId"], "phoneNumber": f"+1202555{ending}", "networkCode": "99999"}
    assert forms(at) == [told | {"status": "Submitted"}, told | {"status": status} | reason]


@pytest.mark.parametrize(
    ("number", "order"),
    [
        ("+254711009902", ["Success", "Submitted"]),
        ("+254711009903", ["Submitted", "Submitted", "Success", "Success"]),
    ],
)
def test_a_number_may_stand_for_disorder(outside: Outside, at: Receiver, number: str, order: list[str]):
    outside.text(number)

    at.await_taken(len(order))
    settled(outside, tries=len(order))
    assert statuses(at) == order
    assert len({form["id"] for form in forms(at)}) == 1


def test_a_number_may_stand_for_silence(outside: Outside, receiver: Receiver):
    outside.direct(africas_talking=f"{receiver.url}/at", legacy=f"{receiver.url}/legacy")
    outside.text("+254711009908")
    outside.legacy_text("+254711009908")
    assert deliveries(outside) == []


async def test_a_number_may_stand_for_reports_that_come_late(tmp_path: Path):
    waits: list[float] = []

    async def pause(seconds: float) -> bool:
        waits.append(seconds)
        return False

    receipts = Receipts(base="http://127.0.0.1:9", secrets=RECEIPT_SECRETS, pause=pause)
    texts = Texts(journal=Journal(tmp_path / "sms.jsonl"), key_ttl=timedelta(hours=24))
    legacy = LegacySms(key="", texts=texts, receipts=receipts)
    app = FastAPI()
    app.include_router(legacy.routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        for number in ("+254711009907", ADA):
            text = {"PhoneNumber": number, "MessageText": "x", "Sender": "x"}
            await client.post("/legacy/sms/send", json=text, headers={"X-Api-Key": "any"})
    await asyncio.sleep(0)
    await receipts.stop()

    assert [seconds for seconds in waits if seconds] == pytest.approx([5.1, 0.1])


def test_what_was_not_taken_is_not_reported(outside: Outside, at: Receiver):
    outside.text("+254711000403", "+254711000500", ADA)

    at.await_taken(2)
    assert {form["phoneNumber"] for form in forms(at)} == {ADA}
    assert [one["type"] for one in deliveries(outside)] == ["Success", "Submitted"]


def test_a_report_that_was_not_taken_comes_again_before_the_next(outside: Outside, at: Receiver):
    at.statuses = [503]
    outside.text(ADA)

    at.await_taken(3)
    settled(outside, tries=3)
    assert statuses(at) == ["Submitted", "Submitted", "Success"]
    final, interim = deliveries(outside)
    assert interim.pop("at").endswith("Z")
    assert interim.pop("id").startswith("msg_")
    assert interim == {
        "provider": "africas-talking",
        "type": "Submitted",
        "key": outside.texts()[0]["messageId"],
        "statusCodes": [503, 204],
    }
    assert final["statusCodes"] == [204]


def test_a_lost_reply_is_reported_all_the_same(outside: Outside, at: Receiver):
    outside.set_fault("sms", "lost-reply")
    with pytest.raises(httpx.RemoteProtocolError):
        outside.text(ADA)

    at.await_taken(2)
    assert statuses(at) == ["Submitted", "Success"]


def test_the_legacy_provider_signs_its_reports(outside: Outside, legacy: Receiver):
    transaction_id = outside.legacy_text(ADA).json()["TransactionId"]

    legacy.await_taken(2)
    sent, delivered = events(legacy, RECEIPT_SECRETS["legacy"])
    assert sent.pop("timestamp").endswith("Z")
    told = {"transactionId": transaction_id, "phoneNumber": ADA}
    assert sent == {"type": "sms.status", "data": told | {"status": "Sent"}}
    assert (delivered["type"], delivered["data"]) == ("sms.status", told | {"status": "Delivered"})
    assert len({headers["webhook-id"] for _, headers, _ in legacy.taken}) == 2
    with pytest.raises(WebhookVerificationError):
        events(legacy, RECEIPT_SECRETS["smtp"])


@pytest.mark.parametrize(
    ("number", "order"),
    [
        ("+254711009901", ["Sent", "Failed"]),
        ("+254711009902", ["Delivered", "Sent"]),
        ("+254711009903", ["Sent", "Sent", "Delivered", "Delivered"]),
    ],
)
def test_its_reports_can_be_bad_and_in_disorder_too(outside: Outside, legacy: Receiver, number: str, order: list[str]):
    outside.legacy_text(number)

    legacy.await_taken(len(order))
    told = [event["data"] for event in events(legacy, RECEIPT_SECRETS["legacy"])]
    assert [data["status"] for data in told] == order
    failed = [data.get("error") for data in told if data["status"] == "Failed"]
    assert failed == ["UserDoesNotExist"] * order.count("Failed")
    assert len({headers["webhook-id"] for _, headers, _ in legacy.taken}) == 2


def test_a_replayed_request_is_not_reported_again(outside: Outside, legacy: Receiver):
    for _ in range(3):
        outside.legacy_text(ADA, key="k")

    legacy.await_taken(2)
    assert len(deliveries(outside)) == 2


def test_a_text_that_comes_in_is_posted_as_africas_talking_does(outside: Outside, receiver: Receiver):
    outside.direct(africas_talking_inbound=f"{receiver.url}/in?secret=hush")
    came = outside.http.post("/sandbox/sms/inbound", json={"from": ADA, "text": "STOP ☕", "to": "22384"})

    assert came.status_code == 202
    receiver.await_taken(1)
    [(path, headers, _)] = receiver.taken
    assert (path, headers["content-type"]) == ("/hooks/in?secret=hush", "application/x-www-form-urlencoded")
    [form] = forms(receiver)
    assert form == {name: str(value) for name, value in came.json().items()} | {"networkCode": "63902"}
    assert set(form) == {"date", "from", "id", "linkId", "text", "to", "networkCode"}
    assert (form["from"], form["text"], form["to"]) == (ADA, "STOP ☕", "22384")


def test_each_source_goes_where_it_was_told_to_and_the_others_nowhere(outside: Outside, receiver: Receiver):
    shown = outside.direct(legacy=f"{receiver.url}/legacy?secret=hush", smtp="")

    assert shown == {
        "africas-talking": "",
        "africas-talking-inbound": "",
        "legacy": f"{receiver.url}/legacy",
        "smtp": "",
    }
    assert outside.http.get("/sandbox/receipts").json() == {"urls": shown, "deliveries": []}
    outside.text(ADA)
    outside.send_mail()
    outside.http.post("/sandbox/sms/inbound", json={"from": ADA, "text": "STOP"})
    outside.legacy_text()

    receiver.await_taken(2)
    assert {one["provider"] for one in deliveries(outside)} == {"legacy"}


@pytest.mark.parametrize(
    "bad",
    [{"fax": "http://localhost/x"}, {"legacy": "localhost"}, {"smtp": "ftp://x"}, {"smtp": "http://["}, {"smtp": None}],
)
def test_directions_that_make_no_sense_are_refused(outside: Outside, bad: dict[str, Any]):
    assert outside.http.put("/sandbox/receipts", json=bad).status_code == 422


def test_forgetting_keeps_the_directions(outside: Outside, at: Receiver):
    outside.text(ADA)
    at.await_taken(2)
    outside.http.delete("/sandbox/data")
    assert deliveries(outside) == []

    outside.text(ADA)
    at.await_taken(4)


async def test_forgetting_drops_what_is_under_way():
    courier = Courier(pause=lambda _: asyncio.get_running_loop().create_future())
    at = datetime(2026, 1, 1, tzinfo=UTC)
    waiting = courier.send([Delivery(id="m", provider="p", type="t", key=None, at=at, url="x", body=b"")], wait=1)

    courier.forget()

    await asyncio.wait({waiting}, timeout=5)
    assert waiting.cancelled()
    assert courier.newest() == []


def test_the_receipts_have_a_page_without_secrets(outside: Outside, at: Receiver):
    outside.text(ADA)
    at.await_taken(2)

    page = outside.http.get("/sandbox/receipts", headers={"accept": "text/html"}).text
    assert "<td>Submitted</td>" in page
    assert "hush" not in page


def test_everything_may_go_below_one_url_from_the_start(tmp_path: Path):
    with receiving() as receiver, running(settings_in(tmp_path, receipt_url=f"{receiver.url}/")) as outside:
        outside.text(ADA)
        outside.http.post("/sandbox/sms/inbound", json={"from": ADA, "text": "STOP"})
        outside.legacy_text(ADA)
        outside.send_mail()
        receiver.await_taken(6)

    assert {path for path, _, _ in receiver.taken} == {
        "/hooks/africas-talking?secret=in%20the%20url%3F",
        "/hooks/africas-talking-inbound?secret=in%20the%20url%3F",
        "/hooks/legacy",
        "/hooks/smtp",
    }


def test_without_a_secret_those_who_sign_are_silent_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with receiving() as receiver, running(settings_in(tmp_path, receipt_secrets="")) as outside:
        shown = outside.direct(africas_talking=receiver.url, legacy=receiver.url, smtp=receiver.url)
        outside.legacy_text(ADA)
        outside.send_mail()
        outside.text(ADA)
        receiver.await_taken(2)
        assert {one["provider"] for one in deliveries(outside)} == {"africas-talking"}

    assert (shown["legacy"], shown["smtp"]) == ("", "")
    assert [record.getMessage() for record in caplog.records] == ["receipts.no-secret"] * 2


def test_the_secrets_may_stand_in_the_secrets_file_and_the_newest_signs(tmp_path: Path):
    newest, older = RECEIPT_SECRETS["smtp"], RECEIPT_SECRETS["legacy"]
    known = {"receipt-secrets": json.dumps({"legacy": f"{newest}, {older}"})}
    (tmp_path / "secrets.json").write_text(json.dumps({"sandbox": known}))
    with receiving() as receiver, running(settings_in(tmp_path, receipt_secrets="")) as outside:
        outside.direct(legacy=receiver.url)
        outside.legacy_text(ADA)
        receiver.await_taken(1)

    assert events(receiver, newest)[0]["data"]["status"] == "Sent"


def test_stopping_drops_what_is_under_way(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with receiving() as receiver:
        receiver.gate.clear()
        with running(settings_in(tmp_path)) as outside:
            outside.direct(africas_talking=receiver.url)
            outside.text(ADA)
            await_that(lambda: len(deliveries(outside)) == 2)
        receiver.gate.set()

    assert caplog.records == []
