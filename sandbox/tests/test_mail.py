"""The mail server, spoken to by the standard library's SMTP client."""

import smtplib
import time

import pytest

from .conftest import Outside, a_mail


def test_a_mail_is_shown_with_its_text_and_html(outside: Outside):
    outside.send_mail(
        to="ada@example.com",
        subject="Grüße ☕",
        text="Fertig ☕\n",
        html="<p>Fertig ☕</p>\n",
        message_id="<n-7@brewline>",
    )

    [mail] = outside.inbox()

    assert mail.pop("at").endswith("Z")
    assert mail == {
        "to": "ada@example.com",
        "from": "Brewline <hello@brewline.example>",
        "subject": "Grüße ☕",
        "text": "Fertig ☕\n",
        "html": "<p>Fertig ☕</p>\n",
        "messageId": "<n-7@brewline>",
    }


def test_a_plain_mail_has_no_html(outside: Outside):
    outside.send_mail(text="Plain.\n")

    assert [(mail["text"], mail["html"]) for mail in outside.inbox()] == [("Plain.\n", None)]


def test_the_newest_mail_comes_first_and_a_list_can_be_cut(outside: Outside):
    for subject in ("one", "two", "three"):
        outside.send_mail(subject=subject)

    assert [mail["subject"] for mail in outside.inbox()] == ["three", "two", "one"]
    assert [mail["subject"] for mail in outside.inbox(limit=2)] == ["three", "two"]


def test_the_inbox_can_be_read_for_one_address(outside: Outside):
    outside.send_mail(to="ada@example.com, bob@example.com")
    outside.send_mail(to="eve@example.com")

    assert [mail["to"] for mail in outside.inbox(to="Bob@example.com")] == ["ada@example.com, bob@example.com"]
    assert outside.inbox(to="nobody@example.com") == []


def test_a_mail_that_was_sent_twice_is_shown_twice(outside: Outside):
    for _ in range(2):
        outside.send_mail(message_id="<n-1@brewline>")

    assert [mail["messageId"] for mail in outside.inbox()] == ["<n-1@brewline>"] * 2


def test_one_connection_carries_many_mails(outside: Outside):
    with outside.smtp() as client:
        for number in range(5):
            client.send_message(a_mail(subject=str(number)))

    assert [mail["subject"] for mail in outside.inbox()] == ["4", "3", "2", "1", "0"]


@pytest.mark.parametrize("text", ["", ".\n", ".a\n..b\n\n.\n.\n", "x" * 5_000 + "\n", "line\n" * 20_000])
def test_a_text_arrives_as_it_was_sent(outside: Outside, text: str):
    outside.send_mail(text=text)

    assert outside.inbox()[0]["text"].rstrip("\n") == text.rstrip("\n")


def test_a_message_of_nothing_is_a_mail(outside: Outside):
    with outside.smtp() as client:
        client.sendmail("a@example.com", ["b@example.com"], b"")

    assert [(mail["from"], mail["to"], mail["text"].strip()) for mail in outside.inbox()] == [
        ("a@example.com", "b@example.com", "")
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"Content-Type: text/plain; charset=klingon\r\n\r\nnuqneH\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\nMessage-ID: <[\r\nSubject: =?klingon?q?x?=\r\n\r\n\xff nuqneH\r\n",
    ],
)
def test_a_crooked_mail_does_not_hide_the_others(outside: Outside, content: bytes):
    outside.send_mail(subject="straight")
    with outside.smtp() as client:
        client.sendmail("a@example.com", ["b@example.com"], content)

    crooked, straight = outside.inbox()

    assert "nuqneH" in crooked["text"]
    assert straight["subject"] == "straight"


def test_an_unusual_address_is_accepted_and_none_is_refused(outside: Outside):
    with outside.smtp() as client:
        client.ehlo()
        client.mail("<hello@brewline.example>")
        assert client.rcpt('"ada lovelace"@example.com')[0] == 250
        assert client.docmd("RCPT TO:", "<@>")[0] == 553
        assert client.docmd("DATA", "now")[0] == 501
        assert client.data(b"Hello\r\n")[0] == 250

    assert outside.inbox()[0]["to"] == '"ada lovelace"@example.com'


def test_data_needs_a_recipient(outside: Outside):
    with outside.smtp() as client:
        client.ehlo()
        assert client.docmd("DATA")[0] == 503


@pytest.mark.parametrize(("fields", "code"), [({}, 451), ({"status": 550}, 550), ({"status": 452}, 452)])
def test_a_mail_error_is_the_servers_reply_and_saves_nothing(outside: Outside, fields: dict[str, int], code: int):
    outside.set_fault("smtp", "error", **fields)

    with pytest.raises(smtplib.SMTPDataError) as refused:
        outside.send_mail()

    assert refused.value.smtp_code == code
    assert outside.inbox() == []


def test_a_connection_goes_on_after_an_error(outside: Outside):
    outside.set_fault("smtp", "error", count=1)

    with outside.smtp() as client:
        with pytest.raises(smtplib.SMTPDataError):
            client.send_message(a_mail())
        client.send_message(a_mail())

    assert len(outside.inbox()) == 1


def test_a_throttling_mail_server_says_421_and_closes(outside: Outside):
    outside.set_fault("smtp", "throttle", count=1)

    with outside.smtp() as client:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.send_message(a_mail())
        assert refused.value.smtp_code == 421
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.noop()

    assert outside.inbox() == []


@pytest.mark.parametrize("fields", [{"mode": "reset"}, {"mode": "timeout", "delayMs": 50}])
def test_a_dropped_mail_connection_saves_nothing(outside: Outside, fields: dict[str, str]):
    outside.set_fault("smtp", **fields)

    with pytest.raises(smtplib.SMTPServerDisconnected):
        outside.send_mail()
    assert outside.inbox() == []


def test_a_lost_reply_keeps_the_mail_and_not_the_250(outside: Outside):
    outside.set_fault("smtp", "lost-reply")

    with pytest.raises(smtplib.SMTPServerDisconnected):
        outside.send_mail()
    assert len(outside.inbox()) == 1


def test_a_slow_mail_server_still_delivers(outside: Outside):
    outside.set_fault("smtp", "ok", delayMs=60)
    began = time.monotonic()

    outside.send_mail()

    assert time.monotonic() - began >= 0.06
    assert len(outside.inbox()) == 1
