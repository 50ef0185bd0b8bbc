import traceback

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from notification.recipients.addresses import NotAPhone, masked, normalise, region_of

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
KINDS = [PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE]
# Of every region in the world, each with its E.164 form.
EXAMPLES = [
    (region, number, phonenumbers.format_number(number, PhoneNumberFormat.E164))
    for region in REGIONS
    for kind in KINDS
    if (number := phonenumbers.example_number_for_type(region, kind)) is not None
]


def test_the_example_numbers_of_a_region_are_known_however_they_are_written():
    assert {region for region, _, _ in EXAMPLES} == set(REGIONS)
    for region, number, e164 in EXAMPLES:
        national, international = (
            phonenumbers.format_number(number, form)
            for form in (PhoneNumberFormat.NATIONAL, PhoneNumberFormat.INTERNATIONAL)
        )
        elsewhere = "US" if region != "US" else "KE"  # the + outweighs the region
        written = [(national, region), (international, None), (e164, None), (e164, elsewhere)]
        assert [normalise(*text) for text in written] == [e164] * 4, region
        assert region_of(e164) == phonenumbers.region_code_for_number(number), region


def test_a_masked_number_tells_its_country_and_at_most_half_of_itself():
    for _, number, e164 in EXAMPLES:
        country, shown = masked(e164).split("…")
        assert country == f"+{number.country_code}", e164
        assert e164.endswith(shown), e164
        assert 2 <= len(shown) <= 4, e164
        assert len(shown) * 2 <= len(e164) - len(country), e164


@pytest.mark.parametrize(
    "text",
    [
        "+12025550123",
        "+1 (202) 555-0123",
        "+1.202.555.0123",
        "".join(chr(ord(char) + 0xFEE0) for char in "+12025550123"),  # full width
        "+١٢٠٢٥٥٥٠١٢٣",
        "+1\u00a0202\u2011555\u20110123",
        "\u202a+1 202 555 0123\u202c",
        "  +1 202 555 0123\n",
    ],
)
def test_a_number_is_the_same_in_any_script_and_with_any_marks(text: str):
    assert normalise(text, None) == "+12025550123"


def test_a_number_without_a_plus_is_of_the_region_it_was_given_in():
    assert normalise("0712 123456", "KE") == "+254712123456"
    assert normalise("00254712123456", "DE") == "+254712123456"
    with pytest.raises(NotAPhone):
        normalise("0712 123456", None)
    with pytest.raises(NotAPhone):
        normalise("0712 123456", "XX")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "+",
        "-",
        "hello",
        "ada@example.com",
        "+1",
        "112",
        "+1 202 555 01234",
        "+1 000 000 0000",
        "+999 12345678",
        "++12025550123",
        "tel:+12025550123",
        "1-800-FLOWERS",
        "+1 2O2 555 0123",
        "call +12025550123",
        "+12025550123 ext. 5",
        "+12025550123x5",
        "+12025550123#5",
        "+12025550123;ext=5",
        "*31#2025550123",
        "+12025550123, +12025550124",
        "+1 202 555 0123\0",
        "²025550123",
        "\ud800+12025550123",
    ],
)
def test_what_is_not_wholly_a_number_is_none(text: str):
    with pytest.raises(NotAPhone):
        normalise(text, "US")


def test_a_long_text_is_refused_before_it_is_read():
    assert normalise("+1" + " " * 20 + "2025550123", None) == "+12025550123"  # 32 characters
    with pytest.raises(NotAPhone):
        normalise("+1" + " " * 21 + "2025550123", None)
    with pytest.raises(NotAPhone):
        normalise("1" * 10_000_000, "US")


@pytest.mark.parametrize("text", ["+1 202 555 01234", "+999 12345678", "1" * 33])
def test_the_refusal_does_not_repeat_the_number(text: str):
    with pytest.raises(NotAPhone) as refused:
        normalise(text, None)
    assert not any(char.isdigit() for char in "".join(traceback.format_exception_only(refused.value)))
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_a_number_of_no_country_has_no_region():
    assert normalise("+800 1234 5678", None) == "+80012345678"
    assert region_of("+80012345678") is None


def test_a_masked_number_shows_its_last_four_digits():
    assert masked("+12025550123") == "+1…0123"
    assert masked("+254712123456") == "+254…3456"


@pytest.mark.parametrize("text", ["", "0712 123456", "ada@example.com", "+999 123"])
def test_what_is_no_number_is_masked_whole(text: str):
    assert masked(text) == "…"
    with pytest.raises(NotAPhone):
        region_of(text)


@given(st.text(max_size=40) | st.from_regex(r"\+?[0-9 ()/.-]{3,30}", fullmatch=True), st.sampled_from([*REGIONS, None]))
def test_whatever_is_given_is_refused_or_becomes_e164_for_good(text: str, region: str | None):
    try:
        e164 = normalise(text, region)
    except NotAPhone:
        return
    assert e164[0] == "+"
    assert e164[1:].isascii()
    assert e164[1:].isdigit()
    assert normalise(e164, None) == e164
