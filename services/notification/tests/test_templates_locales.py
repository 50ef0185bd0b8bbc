"""Which locale speaks to whom, and how it writes amounts and times."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from babel.localedata import locale_identifiers
from hypothesis import given
from hypothesis import strategies as st

from notification.templates import locales
from notification.templates.locales import canonical, day, fallbacks, moment, money, number


@pytest.mark.parametrize(
    ("locale", "chain"),
    [
        ("pt-BR", ["pt-BR", "pt", "en"]),
        ("pt_BR", ["pt-BR", "pt", "en"]),
        ("PT-br", ["pt-BR", "pt", "en"]),
        ("zh-Hant-TW", ["zh-Hant-TW", "zh-Hant", "zh", "en"]),
        ("zh_TW", ["zh-Hant-TW", "zh-Hant", "zh", "en"]),
        ("en-GB", ["en-GB", "en"]),
        ("en", ["en"]),
        ("pt-XX", ["pt", "en"]),
        ("de-u-co-phonebk", ["de", "en"]),
        ("en-US-u-mu-celsius", ["en-US", "en"]),
        ("en-US-u-fw-mon-hc-h23-ms-metric-mu-celsius", ["en-US", "en"]),
        ("de-u-co-phonebk-t-en-x-any", ["de", "en"]),
    ],
)
def test_a_locale_falls_back_step_by_step(locale, chain):
    assert fallbacks(locale) == chain


@pytest.mark.parametrize("locale", ["", "-", "xx", "english", "root", "C", "en_US.UTF-8", "../en", "e" * 1000, "pt\n"])
def test_what_is_no_locale_is_the_default(locale):
    assert fallbacks(locale) == ["en"]
    assert canonical(locale) is None


def test_the_default_can_be_another():
    assert fallbacks("de-AT", default="pt") == ["de-AT", "de", "pt"]
    assert fallbacks("nonsense!", default="pt") == ["pt"]


def test_a_template_is_kept_under_the_tag_it_is_looked_for():
    assert canonical("pt_br") == "pt-BR"
    assert canonical("zh-TW") == fallbacks("zh-TW")[0]


def test_a_chain_is_nobody_elses_to_change():
    fallbacks("pt-BR").clear()
    assert fallbacks("pt-BR") == ["pt-BR", "pt", "en"]


@given(st.text(max_size=40))
def test_every_text_has_a_chain_that_ends_in_the_default(locale):
    assert fallbacks(locale)[-1] == "en"


def test_amounts_are_written_as_the_locale_does():
    assert money({"amount": "9.00", "currency": "USD"}, locale="en") == "$9.00"
    assert money("1234.5", "EUR", locale="de") == "1.234,50\u00a0€"
    assert money("1234.5", "JPY", locale="en") == "¥1,234.5"
    assert number(1234567.5, locale="de") == "1.234.567,5"
    assert number("0.1", locale="en") == "0.1"


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        ("1234.56", "RSD", "RSD1,234.56"),
        (1234.56, "RSD", "RSD1,234.56"),
        ("10.50", "ALL", "ALL10.50"),
        ("1234.567", "IQD", "IQD1,234.567"),
        ("900", "JPY", "¥900"),
        (0.1 + 0.2, "USD", "$0.30"),
        (10 / 3, "USD", "$3.33"),
    ],
)
def test_an_amount_is_never_rounded(amount, currency, written):
    assert money(amount, currency, locale="en") == written


@given(st.decimals(0, 10**9, places=4), st.sampled_from(["USD", "JPY", "RSD", "IQD"]), st.sampled_from(["en", "de"]))
def test_every_digit_of_an_amount_is_written(amount, currency, locale):
    written = money(str(amount), currency, locale=locale)
    assert re.sub(r"\D", "", written) == re.sub(r"\D", "", str(amount))


@pytest.mark.parametrize(
    "value", ["1" * 29, "NaN", "Infinity", "1e999999", "1e-999999", "1e16", "Ada", "", True, None, [1]]
)
def test_no_amount_is_refused_before_it_is_written_out(value):
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        money(value, "USD", locale="en")


@pytest.mark.parametrize("currency", [None, "usd", "USD\n", "<b>", 1])
def test_no_currency_is_refused(currency):
    with pytest.raises(ValueError, match="no currency"):
        money("9.00", currency, locale="en")


def test_a_moment_is_told_in_the_recipients_time():
    assert moment("2026-01-31T23:30:00Z", "Africa/Nairobi", locale="de") == "01.02.2026, 02:30:00"
    assert moment(datetime(2026, 1, 31, 23, 30, tzinfo=UTC), style="short", locale="de") == "31.01.26, 23:30"
    assert moment("2026-01-31T23:30:00", locale="de") == moment("2026-01-31T23:30:00Z", locale="de")


def test_a_day_is_that_of_the_recipients_time():
    assert day("2026-01-31T23:30:00Z", locale="en") == "Jan 31, 2026"
    assert day("2026-01-31T23:30:00Z", tz="Africa/Nairobi", locale="en") == "Feb 1, 2026"
    assert day("2026-03-01T00:00:00+03:00", tz="UTC", locale="en") == "Feb 28, 2026"
    assert day("2026-01-31", "long", tz="Pacific/Auckland", locale="pt") == "31 de janeiro de 2026"
    assert day(date(2026, 1, 31), locale="de") == "31.01.2026"


def test_a_moment_without_a_zone_to_write_it_in_is_told_as_it_was_written():
    assert day("2026-03-01T00:00:00+03:00", locale="en") == "Mar 1, 2026"
    assert moment("2026-03-01T00:00:00+03:00", locale="de") == "01.03.2026, 00:00:00"


@pytest.mark.parametrize(
    ("style", "tz"), [("yyyy" * 1000, "UTC"), ("medium", "Nowhere/Land"), ("medium", "../../etc/passwd")]
)
def test_no_style_and_no_zone_is_refused(style, tz):
    with pytest.raises((ValueError, LookupError)):
        moment("2026-01-31T23:30:00Z", tz, style, locale="en")


def test_recipients_of_every_locale_on_earth_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(locales, "_IN_MEMORY", 5)
    monkeypatch.setattr(locales, "_loaded", {"en": locales._loaded["en"]})
    locales._number.cache_clear()
    for locale in sorted(locale_identifiers())[:40]:
        assert number(Decimal(1), locale=locale)
    assert len(locales._loaded) == 5
    assert number("1.5", locale="pt-BR") == "1.5"  # no room: as the default writes it
    locales._number.cache_clear()
