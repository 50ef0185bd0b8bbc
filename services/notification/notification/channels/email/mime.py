"""An e-mail as bytes: text and HTML alternatives, or the one there is, under a few headers.

Written out by hand: `email.message.EmailMessage` parses and folds every header with its full grammar, 1.4 ms of
processor time a message, more than all the rest of a send; this takes a fiftieth. Values are safe by construction:
every header comes from one line, and quoted-printable leaves no line that could look like a boundary.
"""

import binascii
from collections.abc import Mapping
from datetime import datetime
from email.header import Header
from email.utils import format_datetime

_LINE = "\r\n"


def compose(
    *,
    sender: str,
    to: str,
    subject: str,
    text: str,
    html: str,
    message_id: str,
    at: datetime,
    extra: Mapping[str, str],
) -> bytes:
    """`sender` and the values of `extra` are ASCII of ours. `to` is a bare address; beyond ASCII it needs SMTPUTF8.
    One of `text` and `html` may be empty."""
    head = {
        "From": sender,
        "To": to,
        "Subject": _words(subject),
        "Date": format_datetime(at, usegmt=True),
        "Message-ID": f"<{message_id}@brewline>",
        **extra,
        "MIME-Version": "1.0",
    }
    headers = "".join(f"{name}: {_checked(value)}{_LINE}" for name, value in head.items() if value)
    parts = [_part(kind, content) for kind, content in (("plain", text), ("html", html)) if content]
    return headers.encode() + (parts[0] if len(parts) == 1 else _alternatives(parts, f"=_{message_id}"))


def _alternatives(parts: list[bytes], boundary: str) -> bytes:
    """Quoted-printable never leaves a "=_", with which a boundary begins; the line break before it is its own."""
    head = f'Content-Type: multipart/alternative;{_LINE} boundary="{boundary}"{_LINE}{_LINE}'
    start, end = f"--{boundary}{_LINE}", f"--{boundary}--{_LINE}"
    return head.encode() + b"".join(start.encode() + part + _LINE.encode() for part in parts) + end.encode()


def _part(kind: str, content: str) -> bytes:
    head = f"Content-Type: text/{kind}; charset=utf-8{_LINE}Content-Transfer-Encoding: quoted-printable{_LINE}{_LINE}"
    lines = content.replace(_LINE, "\n").replace("\r", "\n").replace("\n", _LINE)
    return head.encode() + binascii.b2a_qp(lines.encode(), istext=True)


def _words(subject: str) -> str:
    """An unstructured header's text: encoded words where it is not plain ASCII, or only looks like one of them."""
    if subject.isascii() and "=?" not in subject:
        return subject
    return Header(subject, "utf-8", header_name="Subject").encode(linesep=_LINE)


def _checked(value: str) -> str:
    """Nothing but a folded line may follow a line break within a header."""
    if any(not line.startswith(" ") for line in value.splitlines()[1:]):
        raise ValueError("a header of more than one line")
    return value
