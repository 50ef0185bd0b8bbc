"""Locales: which template speaks to whom, and how amounts and times are written there (CLDR, through Babel)."""

import re
from collections.abc import Mapping
from copy import copy
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, cast
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.numbers import format_decimal, get_currency_precision

from chassis.language_tags import without_extensions

DEFAULT = "en"

_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_LARGEST = Decimal(10) ** 15
_FINEST = -20  # decimal places: a Decimal of few bytes may stand for millions of digits
_MOST_DIGITS = 28  # more of them Babel's arithmetic rounds
_COUNTED = 6  # decimal places of a float; more of them are what a division left
_STYLES = frozenset({"short", "medium", "long", "full"})

# Babel keeps the data of every locale it ever wrote, 0.4 MB each, of more than a thousand; recipients choose theirs.
_IN_MEMORY = 100
_loaded = {DEFAULT: Locale.parse(DEFAULT)}


def fallbacks(locale: str, default: str = DEFAULT) -> list[str]:
    """From the most particular to `default`, as BCP 47 tags: zh_TW is zh-Hant-TW, zh-Hant, zh, en. What no locale
    has is left out (pt-XX is pt, en), and what is none at all is `default` alone."""
    return list(_chain(locale, default))


def canonical(locale: str) -> str | None:
    """The tag by which templates are kept and found: pt-BR for pt_BR; None when it is no locale."""
    return chain[0] if (chain := _chain(locale, "")) else None


@lru_cache(maxsize=1024)
def _chain(locale: str, default: str) -> tuple[str, ...]:
    chain: list[str] = []
    if (found := _parsed(locale)) is not None:
        language, script, territory = found.language, found.script, found.territory
        levels = ((language, script, territory), (language, script), (language,))
        chain = ["-".join(part for part in level if part) for level in levels]
    return tuple(dict.fromkeys([*chain, *([default] if default else [])]))


def _parsed(locale: str) -> Locale | None:
    tag = without_extensions(locale)
    while tag:
        try:
            return Locale.parse(tag, sep="-")
        except (UnknownLocaleError, ValueError):
            tag = tag.rpartition("-")[0]
    return None


def _written(locale: str) -> Locale:
    """The locale to write in: its own, or, with too many in memory already, the next of its chain that is."""
    for tag in _chain(locale, DEFAULT):
        if tag in _loaded:
            return _loaded[tag]
        if len(_loaded) < _IN_MEMORY:
            return _loaded.setdefault(tag, Locale.parse(tag, sep="-"))
    return _loaded[DEFAULT]


# --- how it is written; what is no amount, date or zone raises whatever says so ---
def number(value: Any, *, locale: str) -> str:
    """1234.5 → "1,234.5" in English; three decimal places at most."""
    return _number(_decimal(value), locale)


def money(value: Any, currency: str | None = None, *, locale: str) -> str:
    """`value` is `{amount, currency}`, or an amount beside its currency: "9.00", "USD" → "$9.00" in English.

    With the currency's decimals, and never fewer than the amount has: CLDR has none for a dinar's hundredths, and who
    owes 1,234.56 is not told of 1,235.
    """
    if isinstance(value, Mapping):
        both = cast("Mapping[str, Any]", value)
        value, currency = both["amount"], both["currency"]
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise ValueError("no currency")
    amount = _decimal(value)
    places = -cast("int", amount.as_tuple().exponent)
    if isinstance(value, float) and places > _COUNTED:
        places = 0
    return _money(amount, max(places, get_currency_precision(currency)), currency, locale)


def day(value: Any, style: str = "medium", tz: str | None = None, *, locale: str) -> str:
    """`value` is ISO 8601 or a date; of a moment it is the day in `tz`, else where the moment was written. Styles:
    short, medium, long, full."""
    if isinstance(value, str) and len(value) == len("2026-01-31"):
        value = date.fromisoformat(value)
    if not isinstance(value, date) or isinstance(value, datetime):
        value = _moment(value, tz).date()
    return format_date(value, format=_style(style), locale=_written(locale))


def moment(value: Any, tz: str | None = None, style: str = "medium", *, locale: str) -> str:
    """`value` is ISO 8601 or a datetime, UTC where it names no offset; written in the time of `tz`, else in its own."""
    return format_datetime(_moment(value, tz), format=_style(style), locale=_written(locale))


# The same few prices are written over and over, and Babel takes 30 µs for each.
@lru_cache(maxsize=4096)
def _money(amount: Decimal, places: int, currency: str, locale: str) -> str:
    written = _written(locale)
    pattern = copy(written.currency_formats["standard"])
    pattern.frac_prec = (places, places)
    return pattern.apply(amount, written, currency=currency, currency_digits=False)


@lru_cache(maxsize=1024)
def _number(value: Decimal, locale: str) -> str:
    return format_decimal(value, locale=_written(locale))


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError("no number")
    parsed = Decimal(f"{value:.15g}" if isinstance(value, float) else value)  # 0.1 + 0.2 is 0.3
    small = len(parsed.as_tuple().digits) <= _MOST_DIGITS and parsed.adjusted() >= _FINEST
    if not parsed.is_finite() or abs(parsed) > _LARGEST or not small:
        raise ValueError("no number that anybody would write")
    return parsed


def _moment(value: Any, tz: str | None) -> datetime:
    parsed = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    known = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
    return known if tz is None else known.astimezone(ZoneInfo(tz))


def _style(style: str) -> Any:
    if style not in _STYLES:
        raise ValueError("no such style")
    return style
