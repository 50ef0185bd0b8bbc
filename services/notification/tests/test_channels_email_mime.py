from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import pytest

from notification.channels.email.mime import compose

WORDS: dict[str, Any] = {
    "sender": "Brewline <orders@brewline.example>",
    "to": "ada@example.com",
    "subject": "Grüße",
    "text": "Grüße\n\n.leading dot\n--=_boundary\ntrailing \n",
    "html": "<p>" + "ö" * 500 + "</p>\n",
    "message_id": "1",
    "at": datetime(2025, 1, 1, tzinfo=UTC),
    "extra": {},
}


def composed(**changes: Any) -> bytes:
    return compose(**WORDS | changes)


def read(raw: bytes) -> EmailMessage:
    return BytesParser(_class=EmailMessage, policy=policy.default).parsebytes(raw)


def body(mail, kind):
    return mail.get_body((kind,)).get_content().replace("\r\n", "\n")


def test_a_message_by_hand_reads_as_one_by_the_library():
    raw = composed()
    mail = read(raw)
    assert mail["Subject"] == "Grüße"
    assert mail["Date"].datetime == datetime(2025, 1, 1, tzinfo=UTC)
    assert body(mail, "plain") == WORDS["text"]
    assert body(mail, "html") == WORDS["html"]
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert not mail.defects


@pytest.mark.parametrize(("kind", "other"), [("text", "html"), ("html", "text")])
def test_a_message_with_one_body_has_no_parts(kind, other):
    mail = read(composed(**{other: ""}))
    assert mail.get_content_type() == {"text": "text/plain", "html": "text/html"}[kind]
    assert mail.get_content().replace("\r\n", "\n") == WORDS[kind]
    assert not mail.defects


def test_headers_of_ours_stand_beside_the_others_and_empty_ones_nowhere():
    mail = read(composed(extra={"List-Unsubscribe": "<https://x.example/u/1>", "traceparent": ""}))
    assert mail["List-Unsubscribe"] == "<https://x.example/u/1>"
    assert "traceparent" not in mail


def test_a_header_of_two_lines_is_refused():
    with pytest.raises(ValueError, match="more than one line"):
        composed(extra={"X-A": "a\r\nBcc: eve@example.com"})
