"""How long a text message is: its encoding, and how many segments it is sent and paid as (3GPP TS 23.038, 23.040).

The text is measured as it is. A letter followed by a combining mark is not composed first, and a typographic
apostrophe makes the whole message UCS-2: the author should see that.
"""

from dataclasses import dataclass
from typing import Literal

# TS 23.038 § 6.2.1, in the order of its codes; 0x1B, the escape, stands for no character.
BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞÆæßÉ"
    " !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
# § 6.2.1.1: the escape and a code, two septets.
EXTENSION = frozenset("\f^{}\\[~]|€")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """`units` are septets (GSM-7) or UTF-16 code units (UCS-2); `per_segment` is how many of them one segment holds:
    fewer in a text of several, each of which carries a header. An empty text is no segment."""

    encoding: Literal["GSM-7", "UCS-2"]
    units: int
    segments: int
    per_segment: int


def measure(text: str) -> Segments:
    if all(char in BASIC or char in EXTENSION for char in text):
        return _packed("GSM-7", [2 if char in EXTENSION else 1 for char in text], alone=160, joined=153)
    return _packed("UCS-2", [2 if char > "\uffff" else 1 for char in text], alone=70, joined=67)


def _packed(encoding: Literal["GSM-7", "UCS-2"], costs: list[int], *, alone: int, joined: int) -> Segments:
    """A character of two units never lies across a border: it moves to the next segment."""
    units = sum(costs)
    per_segment = alone if units <= alone else joined
    segments = room = 0
    for cost in costs:
        if cost > room:
            segments, room = segments + 1, per_segment
        room -= cost
    return Segments(encoding=encoding, units=units, segments=segments, per_segment=per_segment)
