"""E-mail addresses that can be sent to."""

import re

# It can stand in an SMTP command and a header as it is: no quoting, no brackets, no controls.
_SENDABLE = re.compile(r"[^\s\x00-\x20\x7f<>()\[\]\\,;:\"@]+@[^\s\x00-\x20\x7f<>()\\,;:\"@]+")


def sendable(email: str) -> bool:
    return _SENDABLE.fullmatch(email) is not None
