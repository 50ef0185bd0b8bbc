"""What ships says what it should, in every locale, to anybody, whatever they are called."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from notification.templates.locales import canonical, fallbacks
from notification.templates.render import check, render
from notification.templates.sandbox import compile_template, names_of
from notification.templates.shipped import PARTS, SHIPPED, Source, samples, shipped
from notification.templates.sms_length import measure

# Each test is one table of them all: what fails in it is named beside the assertion.
EVERY = [(key, locale, source) for key, locales in shipped().items() for locale, source in locales.items()]
HOSTILE = "<script>alert('x')</script>"


def hostile(value: Any) -> Any:
    """The same data, with markup in every text."""
    match value:
        case dict():
            return {key: hostile(one) for key, one in value.items()}
        case list():
            return [hostile(one) for one in value]
        case str():
            return value + HOSTILE
        case _:
            return value


def texts(value: Any) -> Iterator[Any]:
    match value:
        case dict():
            for one in value.values():
                yield from texts(one)
        case list():
            for one in value:
                yield from texts(one)
        case _:
            yield value


def test_its_sample_has_all_it_needs():
    for key, locale, source in EVERY:
        assert check(source, samples()[key], locale=locale) == [], (key, locale)


def test_it_renders_with_nothing_left_over():
    for key, locale, source in EVERY:
        rendered = render(source, samples()[key], locale=locale)
        for part in PARTS:
            text = getattr(rendered, part)
            assert bool(getattr(source, part)) is bool(text), (key, locale, part)
            assert not re.search(r"[{}]|None|Undefined", text), (key, locale, part)
        if rendered.html:
            assert f'<html lang="{locale}">' in rendered.html, (key, locale)


def test_markup_in_any_variable_is_escaped_in_html():
    # Amounts and dates have to stay what they are; they are written by Babel, which takes nothing else.
    kept = ("total", "amountDue", "dueDate", "changedAt", "updatedAt")
    for key, locale, source in EVERY:
        if source.html:
            sample = {**samples()[key], "unsubscribeLink": "https://example.com/?a=1"}
            context = hostile(sample) | {name: sample[name] for name in kept if name in sample}
            html = render(source, context, locale=locale).html
            assert "<script" not in html, (key, locale)
            assert "&lt;script&gt;" in html, (key, locale)


def test_an_email_says_the_same_with_and_without_html():
    for key, locale, source in EVERY:
        assert bool(source.text) is bool(source.html), (key, locale)
        assert source.subject or not source.text, (key, locale)


def test_an_email_that_one_can_be_spared_has_a_link_for_that():
    link = {"unsubscribeLink": "https://example.com/u?t=1&c=2"}
    for key, locale, source in EVERY:
        if source.html:
            html = render(source, {**samples()[key], **link}, locale=locale).html
            assert 'href="https://example.com/u?t=1&amp;c=2"' in html, (key, locale)
            without = render(source, samples()[key], locale=locale).html
            assert "<a" not in without or names_of("html", source.html) & {"resetUrl", "resultUrl"}, (key, locale)


def test_the_link_that_spares_one_an_email_stands_in_its_text_too():
    link = "https://example.com/u?t=1&c=2"
    for key, locale, source in EVERY:
        if source.text:
            spared = render(source, {**samples()[key], "unsubscribeLink": link}, locale=locale).text
            assert re.search(rf"\n\n[^\n]+: {re.escape(link)}$", spared.rstrip()), (key, locale)
            without = render(source, samples()[key], locale=locale).text
            assert not re.search(r"nsubscribe|abbestellen|Cancelar", without), (key, locale)


def test_a_text_message_is_one_cheap_segment_or_two():
    for key, locale, source in EVERY:
        if sms := render(source, samples()[key], locale=locale, parts=["sms"]).sms:
            assert measure(sms).encoding == "GSM-7", (key, locale)
            assert measure(sms).segments <= 2, (key, locale)


def test_it_speaks_english_at_least_and_its_translations_have_the_same_parts_under_locales_that_are_looked_for():
    for key, locales in shipped().items():
        assert "en" in locales, key
        assert len({tuple(bool(getattr(source, part)) for part in PARTS) for source in locales.values()}) == 1, key
        assert all(canonical(locale) == locale for locale in locales), key


def test_a_brazilian_is_told_in_portuguese_and_a_dane_in_english():
    locales = shipped()["OrderUpdates", "order-confirmed"]

    def subject(locale):
        found = next(tag for tag in fallbacks(locale) if tag in locales)
        return render(locales[found], samples()["OrderUpdates", "order-confirmed"], locale=found).subject

    assert subject("pt_BR") == "Confirmação do pedido"
    assert subject("de-AT") == "Bestellbestätigung"
    assert subject("da") == "Order Confirmation"


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        (("Account", "welcome"), "Welcome to Our Platform"),
        (("Identity", "welcome"), "Welcome to Our Platform"),
        (("OrderUpdates", "order-confirmed"), "Order Confirmation"),
        (("Account", "password-reset"), "Password Reset Request"),
    ],
    ids=str,
)
def test_whoever_knows_a_subject_finds_it(key, subject):
    assert render(shipped()[key]["en"], samples()[key], locale="en").subject == subject


@pytest.mark.parametrize(("user", "greeting"), [({"name": "Ada"}, "Hello Ada,"), ({"name": ""}, "Hello,")])
def test_a_welcome_greets_its_recipient(user, greeting):
    assert render(shipped()["Account", "welcome"]["en"], {"user": user}, locale="en").text.startswith(greeting)


def test_every_file_belongs_to_a_template():
    loaded = {SHIPPED.joinpath(*key, locale) for key, locale, _ in EVERY}
    names = {"subject.txt", "body.txt", "body.html", "sms.txt", "push.txt"}
    for path in SHIPPED.rglob("*.*"):
        relative = path.relative_to(SHIPPED)
        if relative.parts[0] != "_partials" and path.name != "sample.json":
            assert path.parent in loaded
            assert path.name in names


def test_a_confirmation_lists_what_was_ordered():
    key = ("OrderUpdates", "order-confirmed")
    items = [{"name": "Latte", "variation": "vanilla", "quantity": 2}, {"name": "Scone", "quantity": 1}]
    rendered = render(shipped()[key]["en"], {**samples()[key], "items": items}, locale="en")
    assert "  2 x Latte (vanilla)\n  1 x Scone\n  Total $9.00\n" in rendered.text
    assert "2 &times; Latte (vanilla)" in rendered.html
    assert "1 &times; Scone<" in rendered.html


def test_a_variation_that_is_null_is_not_mentioned():
    key = ("OrderUpdates", "order-confirmed")
    items = [{"name": "Scone", "variation": None, "quantity": 1}]
    assert "  1 x Scone\n" in render(shipped()[key]["en"], {**samples()[key], "items": items}, locale="en").text


def test_a_digest_keeps_its_messages_apart():
    key = ("Digest", "digest")
    text = render(shipped()[key]["en"], samples()[key], locale="en").text
    assert text.count("----") == len(samples()[key]["items"]) - 1


@pytest.mark.parametrize(("locale", "words"), [("en", "and 7 more"), ("de", "und 7 weitere"), ("pt", "e mais 7")])
def test_a_digest_says_how_many_more_there_are(locale, words):
    source, sample = shipped()["Digest", "digest"][locale], samples()["Digest", "digest"]
    some = render(source, {**sample, "count": 9, "more": 7}, locale=locale)
    assert some.subject.startswith("9 ")
    assert f"\n\n… {words}\n" in some.text
    assert f"… {words}<" in some.html
    whole = render(source, {**sample, "count": 2, "more": 0}, locale=locale)
    assert "…" not in whole.text + whole.html


def test_partials_are_of_the_language_too():
    for path in (SHIPPED / "_partials").iterdir():
        text = path.read_text()
        compile_template(Source(html=text) if path.suffix == ".html" else Source(text=text))


def test_samples_are_no_real_persons():
    for sample in samples().values():
        assert all("@" not in text or text.endswith("@example.com") for text in texts(sample) if isinstance(text, str))


@pytest.mark.parametrize(
    "subject",
    ["Your order is ready", "O seu pedido est\u00e1 pronto", "\u0432\u0430\u0448 \u0437\u0430\u043a\u0430\u0437"],
)
@pytest.mark.parametrize("locale", ["en", "de", "pt"])
def test_a_digest_by_sms_fits_two_segments_however_much_it_carries(locale, subject):
    for count in (2, 3, 10, 100):
        items = [{"subject": subject, "text": "..."}] * count
        context = {"items": items, "count": count, "category": "OrderUpdates"}
        sms = render(shipped()["Digest", "digest"][locale], context, locale=locale, parts=["sms"]).sms
        assert sms.startswith(f"{count} ")
        assert subject in sms
        assert measure(sms).segments <= 2
