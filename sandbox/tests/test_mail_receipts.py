"""Mail that bounces, is refused or has to wait, and what the mail server tells of it."""

import smtplib
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from .conftest import RECEIPT_SECRETS, Outside, a_mail
from .receiver import Receiver, receiving


@pytest.fixture
def told(outside: Outside) -> Iterator[Receiver]:
    """Receives what the mail server tells."""
    with receiving() as receiver:
        outside.direct(smtp=receiver.url)
        yield receiver
        outside.direct()


def events(told: Receiver) -> list[dict[str, Any]]:
    return [Webhook(RECEIPT_SECRETS["smtp"]).verify(body, headers) for _, headers, body in told.taken]


def test_a_mail_is_reported_delivered(outside: Outside, told: Receiver):
    outside.send_mail(to="ada@example.com", message_id="<n-7@brewline>")

    told.await_taken(1)
    [event] = events(told)
    assert event.pop("timestamp").endswith("Z")
    data = {"messageId": "<n-7@brewline>", "recipient": "ada@example.com"}
    assert event == {"type": "email.delivered", "data": data}


@pytest.mark.parametrize(
    ("address", "kind", "code"),
    [
        ("bounce@example.com", "permanent", "5.1.1"),
        ("Bounce+7@example.com", "permanent", "5.1.1"),
        ("soft@example.com", "transient", "4.2.2"),
    ],
)
def test_a_mail_may_be_accepted_and_bounce(outside: Outside, told: Receiver, address: str, kind: str, code: str):
    outside.send_mail(to=address, message_id="<n-7@brewline>")

    told.await_taken(1)
    [event] = events(told)
    assert event["type"] == "email.bounced"
    assert event["data"] == {"messageId": "<n-7@brewline>", "recipient": address, "kind": kind, "code": code}
    assert len(outside.inbox()) == 1


def test_each_recipient_has_a_report(outside: Outside, told: Receiver):
    outside.send_mail(to="ada@example.com, bounce@example.com")

    told.await_taken(2)
    assert {(event["data"]["recipient"], event["type"]) for event in events(told)} == {
        ("ada@example.com", "email.delivered"),
        ("bounce@example.com", "email.bounced"),
    }


def test_a_mail_whose_reply_was_lost_is_reported_and_one_that_failed_is_not(outside: Outside, told: Receiver):
    outside.set_fault("smtp", "error", count=1)
    with pytest.raises(smtplib.SMTPDataError):
        outside.send_mail(message_id="<failed@brewline>")
    outside.set_fault("smtp", "lost-reply", count=1)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        outside.send_mail(message_id="<lost@brewline>")

    told.await_taken(1)
    assert [event["data"]["messageId"] for event in events(told)] == ["<lost@brewline>"]


@pytest.mark.parametrize(
    "content", [b"", b"Subject: x\r\n\r\nHello\r\n", b"no header at all\r\n", b"Message-ID:\r\n\r\n"]
)
def test_of_a_mail_without_a_name_nothing_is_told(outside: Outside, told: Receiver, content: bytes):
    with outside.smtp() as client:
        client.sendmail("a@example.com", ["b@example.com"], content)
    outside.send_mail(message_id="<named@brewline>")

    told.await_taken(1)
    assert [event["data"]["messageId"] for event in events(told)] == ["<named@brewline>"]


def test_a_refused_recipient_is_a_550_at_rcpt(outside: Outside):
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        outside.send_mail(to="refused@example.com")

    assert {code for code, _ in refused.value.recipients.values()} == {550}
    assert outside.inbox() == []


def test_one_refused_recipient_leaves_the_others(outside: Outside):
    with outside.smtp() as client:
        refused = client.send_message(a_mail(to="ada@example.com, Refused.one@example.com"))

    assert [code for code, _ in refused.values()] == [550]
    assert [mail["to"] for mail in outside.inbox()] == ["ada@example.com"]


def test_a_greylisted_recipient_has_to_come_twice(outside: Outside):
    for address in ("greylist@example.com", "greylist-2@example.com"):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            outside.send_mail(to=address)
        assert {code for code, _ in refused.value.recipients.values()} == {451}
        outside.send_mail(to=address)
        outside.send_mail(to=address)
    assert len(outside.inbox()) == 4

    outside.reset()
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        outside.send_mail(to="greylist@example.com")


def test_where_nobody_listens_nothing_is_told(outside: Outside):
    outside.send_mail(to="bounce@example.com")

    assert len(outside.inbox()) == 1
    assert outside.http.get("/sandbox/receipts").json()["deliveries"] == []
