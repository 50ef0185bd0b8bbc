"""Text from outside: all that people write stays as it is; what could forge a header or a line of a log goes."""

import re

# Controls, the two separators that end a line, the two that turn around what follows, and halves of a surrogate pair,
# which nothing can encode. Joiners stay: Persian and family emoji are written with them.
_FORGING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202d\u202e\ud800-\udfff]")


def one_line(text: str, *, by: str = "") -> str:
    return text if text.isprintable() else _FORGING.sub(by, text)  # nearly all are, and are told ten times as fast


def is_one_line(text: str) -> bool:
    return _FORGING.search(text) is None
