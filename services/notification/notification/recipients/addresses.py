"""Addresses that can be sent to: e-mail addresses (what one is, chassis says) and phone numbers."""

import re
from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat

from chassis.addresses import email_address

_LONGEST = 32  # characters; E.164 has 15 digits, the rest is how people write them
# Digits of any script and the marks people put between them. No letters, which the library would dial as on a keypad:
# a mistyped O would become a 6, somebody else's number. No extension, which a message could not reach.
_WRITTEN = re.compile(r"\s*[+\uff0b]?[\d\s()\[\]./\-\u00ad\u2010-\u2015\u2060\u2212\uff0d]+")
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\ufeff]")  # comes along when a number is copied from a contact


class NotAPhone(ValueError):
    """Says nothing of what was given, which may be personal."""

    def __init__(self) -> None:
        super().__init__("Not a valid phone number")


@lru_cache(maxsize=4096)  # an order tells the same few again and again
def normalise(text: str, region: str | None) -> str:
    """E.164 of a number that its country's plan knows. `region` (ISO 3166, "KE") is where a number without + is from.

    Raises NotAPhone, also for more than 32 characters, letters and extensions.
    """
    if len(text) > _LONGEST:
        raise NotAPhone
    text = _INVISIBLE.sub("", text)
    if not _WRITTEN.fullmatch(text):
        raise NotAPhone
    number = _parsed(text, region)
    if not phonenumbers.is_valid_number(number):
        raise NotAPhone
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def usable_phone(text: str) -> str:
    """E.164, or nothing: an unusable number keeps nobody from being told by another channel."""
    try:
        return normalise(text, None) if text else ""
    except NotAPhone:
        return ""


def usable_email(text: str) -> str:
    """As it is kept, or nothing: as `usable_phone`."""
    try:
        return email_address(text.strip()) if text else ""
    except ValueError:
        return ""


def region_of(e164: str) -> str | None:
    """The country or territory, None for the numbers of no country (+800 and the like). Raises NotAPhone."""
    region = phonenumbers.region_code_for_number(_parsed(e164, None))
    return None if region == phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY else region


def masked(e164: str) -> str:
    """For display: "+1…0123". Of a short number less is shown, of what is no number nothing."""
    try:
        number = _parsed(e164, None)
    except NotAPhone:
        return "…"
    national = phonenumbers.national_significant_number(number)
    return f"+{number.country_code}…{national[-min(4, len(national) // 2) :]}"


def _parsed(text: str, region: str | None) -> PhoneNumber:
    try:
        return phonenumbers.parse(text, region)
    except NumberParseException:
        raise NotAPhone from None
