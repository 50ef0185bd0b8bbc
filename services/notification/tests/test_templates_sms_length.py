import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification.templates.sms_length import BASIC, EXTENSION, Segments, measure

GSM = "".join(sorted(BASIC | EXTENSION))


def gsm(units: int, segments: int, per_segment: int) -> Segments:
    return Segments(encoding="GSM-7", units=units, segments=segments, per_segment=per_segment)


def ucs(units: int, segments: int, per_segment: int) -> Segments:
    return Segments(encoding="UCS-2", units=units, segments=segments, per_segment=per_segment)


def test_the_tables_have_the_sizes_of_the_standard():
    assert len(BASIC) == 127  # 128 codes, one of which is the escape
    assert len(EXTENSION) == 10
    assert not BASIC & EXTENSION


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", gsm(0, 0, 160)),
        ("a", gsm(1, 1, 160)),
        ("a" * 160, gsm(160, 1, 160)),
        ("a" * 161, gsm(161, 2, 153)),
        ("a" * 153 * 2, gsm(306, 2, 153)),
        ("a" * (153 * 2 + 1), gsm(307, 3, 153)),
        ("€", gsm(2, 1, 160)),
        ("\f", gsm(2, 1, 160)),
        ("\r\n", gsm(2, 1, 160)),
        ("[x]{y}~^\\|", gsm(18, 1, 160)),
        ("€" * 80, gsm(160, 1, 160)),
        ("€" * 81, gsm(162, 2, 153)),
        # 76 to a segment: the 153rd septet can't hold half a euro.
        ("€" * 153, gsm(306, 3, 153)),
        ("a" * 152 + "€" + "a" * 152, gsm(306, 3, 153)),
        ("a" * 151 + "€" + "a" * 153, gsm(306, 2, 153)),
        ("ΔΦΓΛΩΠΨΣΘΞ", gsm(10, 1, 160)),
    ],
)
def test_a_text_of_the_gsm_alphabet_is_counted_in_septets(text: str, expected: Segments):
    assert measure(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("я" * 70, ucs(70, 1, 70)),
        ("я" * 71, ucs(71, 2, 67)),
        ("я" * 134, ucs(134, 2, 67)),
        ("я" * 135, ucs(135, 3, 67)),
        ("a" * 69 + "\u2019", ucs(70, 1, 70)),
        ("a" * 160 + "\u2019", ucs(161, 3, 67)),
        ("😀", ucs(2, 1, 70)),
        ("😀" * 35, ucs(70, 1, 70)),
        # 33 to a segment: the 67th unit can't hold half a pair.
        ("😀" * 66, ucs(132, 2, 67)),
        ("😀" * 67, ucs(134, 3, 67)),
        ("a" * 66 + "😀" + "a" * 66, ucs(134, 3, 67)),
        ("👩‍👩‍👧", ucs(8, 1, 70)),
        ("é", gsm(1, 1, 160)),
        ("e\u0301", ucs(2, 1, 70)),
        ("\ud800", ucs(1, 1, 70)),
    ],
)
def test_any_other_text_is_counted_in_utf_16_code_units(text: str, expected: Segments):
    assert measure(text) == expected


@pytest.mark.parametrize("char", "çÈÀ`\t\0\x1b\u2019“\u2013…\u00a0\u0303\u03b1")
def test_what_looks_like_the_gsm_alphabet_and_is_not_makes_the_text_ucs_2(char: str):
    assert measure(char).encoding == "UCS-2"


def septets_cut(text: str) -> int:
    """What a phone does: escape, then cut, one septet earlier where the cut would follow an escape."""
    codes = "".join("\x1b" + char if char in EXTENSION else char for char in text)
    if len(codes) <= 160:
        return 1 if codes else 0
    pieces = 0
    while codes:
        cut = 152 if codes[:153].endswith("\x1b") else 153
        pieces, codes = pieces + 1, codes[cut:]
    return pieces


def code_units_cut(text: str) -> int:
    data = text.encode("utf-16-be")
    if len(data) <= 140:
        return 1 if data else 0
    pieces = 0
    while data:
        high_surrogate_last = len(data) > 134 and 0xD8 <= data[132] <= 0xDB
        pieces, data = pieces + 1, data[132 if high_surrogate_last else 134 :]
    return pieces


@given(st.text(alphabet=GSM + "€" * 40, max_size=700))
def test_gsm_segments_are_those_of_the_encoded_text_cut_between_characters(text: str):
    assert measure(text).segments == septets_cut(text)
    assert measure(text).encoding == "GSM-7"


@given(st.text(alphabet="aя😀", max_size=400))
def test_ucs_2_segments_are_those_of_the_encoded_text_cut_between_characters(text: str):
    measured = measure("я" + text)
    assert measured.segments == code_units_cut("я" + text)
    assert measured.units == len(("я" + text).encode("utf-16-be")) // 2


@given(st.text(), st.text())
def test_more_text_is_never_fewer_segments(text: str, more: str):
    """Though it may be fewer units: what takes two of GSM-7 takes one of UCS-2, of which a segment holds fewer."""
    assert measure(text + more).segments >= measure(text).segments
