"""The language of templates: what it can say, what it needs, and what it cannot be made to do."""

import time
import tracemalloc
from contextlib import suppress
from decimal import Decimal
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification.templates.limits import SECONDS
from notification.templates.render import NotRenderable, check, render
from notification.templates.sandbox import BadTemplate, compile_template, names_of
from notification.templates.shipped import PARTS, Source, samples, shipped
from stack.examples import examples

MANY = list(range(1000))
LONG = "x" * 60_000


def text(source, context=None, locale="en", **more):
    return render(Source(text=source), context or {}, locale=locale, name="C/n", **more).text


def html(source, context=None):
    return render(Source(html=source), context or {}, locale="en").html


def refused(source):
    with pytest.raises(BadTemplate) as bad:
        compile_template(Source(html=source))
    assert all(error.pointer == "/html" for error in bad.value.errors)
    return " ".join(error.detail for error in bad.value.errors)


# --- what it renders ---


def test_only_the_parts_that_are_asked_for_are_rendered():
    source = Source(subject="s", text="t", html="h", sms="m", push="{{ missing }}")
    rendered = render(source, {}, locale="en", parts=["subject", "sms"])
    assert (rendered.subject, rendered.text, rendered.html, rendered.sms, rendered.push) == ("s", "", "", "m", "")


def test_a_template_is_compiled_once():
    source = Source(text="{{ a }}")
    assert render(source, {"a": 1}, locale="en").text == "1"
    assert compile_template(Source(text="{{ a }}")) is compile_template(source)


def test_what_one_part_sets_another_does_not_see():
    source = Source(subject="{% set a = 'changed' %}{{ a }}", text="{{ a }}")
    rendered = render(source, {"a": "given"}, locale="en")
    assert (rendered.subject, rendered.text) == ("changed", "given")


def test_what_it_can_say():
    context = {"items": [{"name": "Latte", "n": 2}, {"name": "Scone", "n": 1}], "who": " ada ", "by": {"items": "k"}}
    assert text("{% for i in items if i.n > 1 %}{{ loop.index }}{{ i.name }}{% endfor %}", context) == "1Latte"
    assert text("{% for i in items %}{{ i.name }}{{ ', ' if not loop.last }}{% endfor %}", context) == "Latte, Scone"
    assert text("{% for i in [] %}{% else %}none{% endfor %}", context) == "none"
    assert text("{{ items|join(' + ', 'name') }}{{ items|length }}", context) == "Latte + Scone2"
    assert text("{{ (items|first).name ~ items[1].name }}", context) == "LatteScone"
    assert text("{% set n = 2 %}{{ (n + 3) * 2 / 4 }}{{ -7 % 3 }}{{ 'a' + 'b' }}", context) == "2.52ab"
    assert text("{{ who|trim|title }}{{ 'x' in who }}{{ who[1:3] }}", context) == "AdaFalsead"
    assert text("{{ by.items }}", context) == "k"
    assert text("{% if who is defined and items[0].n is even %}y{% endif %}", context) == "y"
    assert text("{{ 'abc def ghi'|truncate(9) }}|{{ 'a&b'|urlencode }}|{{ 'aXa'|replace('a', 'b') }}") == (
        "abc...|a%26b|bXb"
    )
    assert text("{% block a %}b{% endblock %}") == "b"


def test_null_is_nothing():
    assert text("<{{ a }}{{ a ~ 'b' }}{{ a|upper }}>", {"a": None}) == "<b>"


def test_amounts_and_times_are_written_in_the_locale():
    context = {"total": {"amount": "1234.50", "currency": "EUR"}, "at": "2026-01-31T23:30:00Z", "n": Decimal("1.5")}
    source = "{{ total|money }} {{ 5|money('USD') }} {{ at|date }} {{ at|datetime('Africa/Nairobi') }} {{ n|number }}"
    assert text(source, context) == "€1,234.50 $5.00 Jan 31, 2026 Feb 1, 2026, 2:30:00\u202fAM 1.5"
    assert text(source, context, locale="de_DE") == ("1.234,50\u00a0€ 5,00\u00a0$ 31.01.2026 01.02.2026, 02:30:00 1,5")
    assert text("{{ locale }}", {"locale": "xx"}, locale="pt_BR") == "pt-BR"


def test_a_text_message_has_no_space_that_costs_half_its_room():
    source = Source(sms=" {{ 5|money('USD') }} {{ '2026-01-31'|datetime }}\n")
    assert render(source, {}, locale="de").sms == "5,00 $ 31.01.2026, 00:00:00"
    assert "\u202f" not in render(source, {}, locale="en").sms


def test_a_subject_is_one_line():
    name = "Ada\r\nBcc: everyone@example.com\x00"
    assert render(Source(subject="Hi {{ n }}: hi"), {"n": name}, locale="en").subject == (
        "Hi Ada Bcc: everyone@example.com : hi"
    )
    assert len(render(Source(subject="{{ n }}"), {"n": LONG}, locale="en").subject) == 255


@pytest.mark.parametrize("name", ["\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "👨\u200d👩\u200d👧"])
def test_what_is_written_with_joiners_keeps_them_in_a_subject(name):
    assert render(Source(subject="{{ n }}"), {"n": name}, locale="en").subject == name


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_nobody_is_told_a_number_that_is_none(number):
    with pytest.raises(NotRenderable):
        render(Source(text="{{ n }}"), {"n": number}, locale="en")


def test_a_push_message_has_no_line_around_it():
    assert render(Source(push="\n {{ n }}\n\n"), {"n": "Ada\n"}, locale="en").push == "Ada"


def test_html_is_escaped_and_nothing_else_is():
    rendered = render(Source(**dict.fromkeys(PARTS, "{{ n }}")), {"n": "<b>'\"&"}, locale="en")
    assert rendered.html == "&lt;b&gt;&#39;&#34;&amp;"
    assert {rendered.subject, rendered.text, rendered.sms, rendered.push} == {"<b>'\"&"}


@pytest.mark.parametrize(
    "source",
    [
        "{{ '<b>' ~ n }}",
        "{{ '<b>' + n }}",
        "{{ n|replace('x', '<b>') }}",
        "{{ [1, 2]|join(n) }}",
        "{{ n|default('<b>') }}",
        "{{ nothing|default(n) }}",
        "{{ n|upper }}",
        "{% set x = '<b>' ~ n %}{{ x }}",
        "{{ '<b>' }}",
        "{{ '<i>'|lower ~ n|trim }}",
        "{{ n|truncate(4) }}",
        "{{ n|first }}{{ n[0:2] }}",
    ],
)
def test_nothing_a_template_does_to_a_text_lets_markup_through(source):
    made = html(source, {"n": "<b>x"})
    assert "<" not in made
    assert "&lt;" in made


def test_a_name_is_never_taken_for_a_template():
    assert text("{{ n }}", {"n": "{{ 7 * 7 }}"}) == "{{ 7 * 7 }}"


# --- what it refuses when it is written ---


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("a\n{{ b", "line 2: "),
        ("{% if %}", "line 1: "),
        ("{% for a in b %}", "line 1: Unexpected end of template"),
        ("{{ b|safe }}", "line 1: no filter safe; there are "),
        ("{% if a %}{{ b|nothing }}{% endif %}", "no filter nothing"),
        ("{% autoescape false %}{{ b }}{% endautoescape %}", "autoescape is not allowed"),
        ("{% set x %}{{ b }}{% endset %}{{ x }}", "set with a block is not allowed"),
        ("{% filter upper %}x{% endfilter %}", "a filter block is not allowed"),
        ("{{ 'x'.ljust(10) }}", "a call is not allowed"),
        ("{% for i in range(1000000000) %}{% endfor %}", "a call is not allowed"),
        ("{{ lipsum() }}{{ cycler() }}", "a call is not allowed"),
        ("{{ b.format(c) }}", "a call is not allowed"),
        ("{% macro m() %}{% endmacro %}", "Macro is not allowed"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "Macro is not allowed"),
        ("{% call b() %}{% endcall %}", "CallBlock is not allowed"),
        ("{% from 'items.html' import x %}", "FromImport is not allowed"),
        ("{% block a %}{{ self.a() }}{% endblock %}", "a call is not allowed"),
        ("{% extends 'layout.html' %}{% block content %}{{ super() }}{% endblock %}", "a call is not allowed"),
        ("{{ '{0.__class__}'.format(b) }}", "a call is not allowed"),
        ("{{ '{0.__class__.__init__.__globals__}'|format(b) }}", "no filter format"),
        ("{{ b|attr('__class__') }}", "no filter attr"),
        ("{{ b|map(attribute='__class__')|list }}", "no filter "),
        ("{{ b|map('upper') }}", "no filter map"),
        ("{{ b|xmlattr }}", "no filter xmlattr"),
        ("{{ b|pprint }}", "no filter pprint"),
        ("{{ b|indent(1000000000) }}", "no filter indent"),
        ("{{ b|batch(1000000000, 'x') }}", "no filter batch"),
        ("{{ b is filter }}", "no test filter"),
        ("{{ b|forceescape }}{% do b %}", "line 1: "),
        ("{{ '%1000000000d'|format(1) }}", "no filter format"),
        ("{{ b|center(1000000000) }}", "no filter center"),
        ("{{ b is divisibleby 3 }}", "no test divisibleby"),
        ("{{ 10 ** 10 ** 10 }}", "** is not allowed"),
        ("{{ [b, b] }}", "a list is written of constants only"),
        ("{{ {'a': b} }}", "Dict is not allowed"),
        ("{% set a.b = 1 %}", "set has one name"),
        ("{% for a, b in c %}{% endfor %}", "a loop has one name"),
        ("{% for a in c recursive %}{% endfor %}", "not recursive"),
        ("{{ b|join(*c) }}", "no filter join"),
        ("{% include '../../settings.py' %}", "no partial but digest.html, items.html, layout.html"),
        ("{% include b %}", "no partial but"),
        ("{% include 'items.txt' %}", "no partial but"),
        ("{% extends '/etc/passwd' %}", "no partial but"),
        ("{% import 'items.html' as x %}", "Import is not allowed"),
        ("{% include 'items.html' without context %}", "with its context"),
        ("{% block a %}{% endblock %}{% block a %}{% endblock %}", "line 1: "),
        ("{{ " + "9" * 5000 + " }}", "no template"),
        ("{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}", "no template"),
        ("{{ " + "1+" * 200 + "1 }}", "nested too deeply"),
        ("{% if b %}" * 150 + "{% endif %}" * 150, "nested too deeply"),
        ("{% for a in b %}" * 25 + "{% endfor %}" * 25, "no template"),
        ("{{ b }}" * 4000, "too long"),
        ("{{ [" + "1," * 9000 + "] }}", "too long"),
        ("{{ [" + "1," * 9000 + " nor is it read any further", "too long"),
        ("{{ " + "a==" * 5000 + "a }}", "too long"),
        ("x" * 100_001, "too long"),
    ],
)
def test_what_is_no_template_is_refused_with_its_line(source, why):
    assert why in refused(source)


def test_every_part_that_is_wrong_is_told():
    with pytest.raises(BadTemplate) as bad:
        compile_template(Source(subject="{{", text="fine", sms="{{ a|safe }}{{ b() }}"))
    assert [error.pointer for error in bad.value.errors] == ["/subject", "/sms", "/sms"]


# --- what it refuses when it is rendered ---


def test_a_missing_variable_is_refused_and_not_left_blank():
    with pytest.raises(NotRenderable, match=r"^template C/n/text: UndefinedError$") as error:
        text("{{ customer.name }}", {"customer": {"id": "Ada's secret"}})
    assert error.value.detail == "'dict object' has no attribute 'name'"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "n.__class__",
            "n['__class__']",
            "n['__cla' ~ 'ss__']",
            "n.upper",
            "n.format",
            "n.format_map",
            "locale.upper",
        ),
        *("d.keys", "d._x", "d['__class__']", "l.append", "l.__len__", "l[0].real", "(1).__class__", "none.__class__"),
        *("loop.index", "missing.__class__", "self.__class__", "self._TemplateReference__context", "self['<run>']"),
        *("''.__class__.__mro__[1].__subclasses__", "range", "dict", "lipsum", "cycler", "joiner", "namespace"),
    ],
)
def test_a_template_can_reach_nothing_but_its_context(path):
    with pytest.raises(NotRenderable, match="UndefinedError"):
        text("{{ " + path + " }}", {"n": "Ada", "d": {"a": 1}, "l": [1]})


@pytest.mark.parametrize("name", ["__class__", "_iterable", "_context", "cycle", "changed", "previtem", "nextitem"])
def test_a_loop_tells_where_it_is_and_no_more(name):
    with pytest.raises(NotRenderable, match="UndefinedError"):
        text("{% for x in l %}{{ loop." + name + " }}{% endfor %}", {"l": [1, 2]})


def test_a_list_is_not_joined_by_what_its_items_are_made_of():
    with pytest.raises(NotRenderable, match="TypeError"):
        text("{{ l|join(', ', '__class__') }}", {"l": ["Ada"]})


@pytest.mark.parametrize(
    "source", ["{{ '%s' % n }}", "{{ '%(a)s' % d }}", "{{ '%c' % 65 }}", "{{ 'a' * 3 }}", "{{ n - 1 }}"]
)
def test_arithmetic_is_for_numbers(source):
    with pytest.raises(NotRenderable, match="TypeError"):
        text(source, {"n": "Ada", "d": {"a": 1}})


@pytest.mark.parametrize("value", ["d", "l", "self", "loop"])
def test_what_is_no_text_is_not_printed(value):
    with pytest.raises(NotRenderable, match="TypeError"):
        text("{% for x in l %}{{ " + value + " }}{% endfor %}", {"d": {"a": 1}, "l": [1]})


def test_the_error_of_a_template_says_nothing_of_its_context():
    for source in ("{{ n|number }}", "{{ n|date }}", "{{ d[n] }}", "{{ n * 2 }}"):
        with pytest.raises(NotRenderable) as error:
            text(source, {"n": "Ada Lovelace", "d": {}})
        assert "Ada" not in str(error.value)
        assert error.value.__cause__ is None


NESTED = "{% for a in many %}{% for b in many %}{% for c in many %}%s{% endfor %}{% endfor %}{% endfor %}"
ENDLESS = {
    "nothing": NESTED.replace("%s", ""),
    "an if": NESTED.replace("%s", "{% if a == b %}{% endif %}"),
    "a slow search": NESTED.replace("%s", "{% if needle in hay %}{% endif %}"),
    "a slow filter": NESTED.replace("%s", "{% set x = long|replace('x', 'y') %}"),
    "a slow title": NESTED.replace("%s", "{% set x = words|title %}"),
    "a slow join": NESTED.replace("%s", "{% set x = numbers|join %}"),
    "a slow list": "{% set x = numbers|join %}" * 600,
    "a slow comparison": "{% if left == right %}{% endif %}" * 500,
    "a slow look-up": "{% if 'x' in left %}{% endif %}" * 500,
    "a slow chain": "{{ " + "left==right==" * 1500 + "left }}",
    "a slow sum": NESTED.replace("%s", "{% set x = long + 'y' %}"),
    "a condition": "{% for a in many if a in many %}{% for b in many if a in many %}{% endfor %}{% endfor %}",
    "a partial": "{% for a in many %}{% for b in many %}{% include 'items.txt' %}{% endfor %}{% endfor %}",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_a_template_that_does_not_end_is_stopped(source):
    items = [{"name": "", "quantity": 1}] * 100
    context = {"many": MANY, "long": LONG, "hay": LONG, "needle": "x" * 30_000 + "y" + "x" * 29_000}
    context |= {"words": "a " * 30_000, "numbers": [1] * 30_000, "left": list(map(float, MANY)) * 100}
    context["right"] = list(map(float, MANY)) * 100
    compile_template(Source(text=source))
    began = time.thread_time()
    with pytest.raises(NotRenderable, match=r"^template C/n/text: (time|size) limit$"):
        text(source, context | {"items": items, "total": {"amount": "1", "currency": "USD"}}, seconds=SECONDS / 5)
    assert time.thread_time() - began < SECONDS


def test_the_parts_of_a_template_share_one_budget():
    context = {"many": [1] * 20_000}
    began = time.thread_time()
    text("{% for a in many %}{% endfor %}", context)
    half = int(SECONDS / 2 / (time.thread_time() - began))
    source = Source(**dict.fromkeys(PARTS, "{% for a in many %}{% endfor %}" * half + "."))
    assert render(source, context, locale="en", parts=["sms"]).sms == "."
    with pytest.raises(NotRenderable, match=r"time limit$"):
        render(source, context, locale="en")


def test_what_is_proven_is_not_stopped_by_a_process_that_pauses():
    source = Source(text="{% for a in many %}.{% endfor %}")
    with pytest.raises(NotRenderable, match="time limit"):
        render(source, {"many": MANY}, locale="en", seconds=0)
    assert render(source, {"many": MANY}, locale="en", seconds=inf).text == "." * 1000


HUGE = {
    "a loop": "{% for a in many %}{% for b in many %}{{ long }}{% endfor %}{% endfor %}",
    "doubling": "{% set a = long %}" + "{% set a = a ~ a %}" * 40,
    "adding": "{% set a = long %}" + "{% set a = a + a %}" * 40,
    "a separator": "{{ many|join(long) }}",
    "replacement": "{{ long|replace('', long) }}",
    "a product": "{% set a = 99999999 %}" + "{% set a = a * a %}" * 40,
    "repetition": "{{ 'a' * 1000000000 }}",
    "repeated list": "{{ [1] * 1000000000 }}",
    "a width": "{{ '%1000000000d' % 1 }}",
    "a number": "{{ '1e999999999'|number }}",
    "a small number": "{{ '1e-999999999'|money('USD') }}",
    "a date": "{{ '2026-01-31'|date(long) }}",
    "letters that grow": "{% set a = sharp|upper %}",
    "bytes that grow": "{% set a = sharp|urlencode %}",
    "a long value": "{{ longer }}",
    "a long value's title": "{% set a = (longer|title)[0:1] %}",
}


@pytest.mark.parametrize("source", HUGE.values(), ids=HUGE)
def test_a_template_cannot_fill_the_memory(source):
    context = {"many": MANY, "long": LONG, "longer": "x" * 65_537, "sharp": "ß" * 60_000}
    compile_template(Source(html=source))
    tracemalloc.start()
    try:
        with pytest.raises(NotRenderable):
            html(source, context)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_what_is_too_long_is_stopped_while_it_is_made():
    for source in ("{{ long }}{{ long }}{{ missing }}", "{% for a in many %}{{ long }}{% endfor %}{{ missing }}"):
        with pytest.raises(NotRenderable, match="size limit"):
            text(source, {"long": LONG, "many": MANY})


def test_numbers_stay_such_as_anybody_would_write():
    assert text("{{ 10000000 * 10000000 }}") == "100000000000000"
    with pytest.raises(NotRenderable, match="size limit"):
        text("{{ n * n }}", {"n": 100_000_000})


def test_a_remainder_that_would_be_a_format_is_no_number():
    assert text("{{ '%1000000000d' is even }}{{ 3 is odd }}{{ 4 is even }}") == "FalseTrueTrue"


def test_an_email_may_be_longer_than_a_text():
    context = {"long": "x" * 50_000}
    assert len(html("{{ long }}" * 10, context)) == 500_000
    with pytest.raises(NotRenderable, match="size limit"):
        html("{{ long }}" * 10 + ".", context)
    with pytest.raises(NotRenderable, match="size limit"):
        text("{{ long }}" * 2, context)


PIECES = (
    "{{ }} {% %} if else endif for in endfor set = a b c . [ ] ( ) | ~ + - * / % ** , 'x' 1 999999 upper join default "
    "replace date money is defined not and or block endblock include extends 'items.html' 'layout.html' loop self "
    "range __class__ safe {# #} raw endraw"
)
WHOLE = [
    "{{ a",
    "}}",
    "{% if a %}",
    "{% endif %}",
    "{% for i in b %}",
    "{% endfor %}",
    "{{ c.a.b ~ 'x' }}",
    "{% set b =",
]


@examples(80)
@given(st.lists(st.sampled_from([*PIECES.split(" "), *WHOLE]), max_size=30))
def test_whatever_is_written_is_refused_or_rendered_and_lets_no_markup_through(pieces):
    source = Source(html=" ".join(pieces))
    context = {"a": "<b>", "b": [{"c": "<b>"}] * 50, "c": {"a": {"b": "<b>"}}}
    check(source, context)
    with suppress(BadTemplate, NotRenderable):
        assert "<b>" not in render(source, context, locale="de").html


# --- what it needs ---


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("{{ customer.name }} {{ orderId }}", {"customer", "orderId"}),
        ("{{ a[b] }}", {"a", "b"}),
        ("{% for i in items if i.open %}{{ i.name }}{{ loop.index }}{% else %}{{ i }}{% endfor %}", {"items", "i"}),
        ("{% set c = customer %}{{ c.name }}", {"customer"}),
        ("{% if a %}{% set x = 1 %}{% else %}{% set x = 2 %}{% endif %}{{ x }}", {"a"}),
        ("{% if n == 2 %}{{ missing }}{% endif %}{{ 1 if n else other }}", {"n", "missing", "other"}),
        ("{% if link is defined %}{{ link }}{% endif %}{{ note|default('-') }}", set()),
        ("{{ a|replace(b, c) ~ d + e if f == g else h }}", set("abcdefgh")),
        ("{{ at|date(tz=zone) }}", {"at", "zone"}),
        ("{{ locale }}", set()),
        ("{% raw %}{{ a }}{% endraw %}{# {{ b }} #}", set()),
    ],
)
def test_what_a_template_asks_of_its_context_is_known(source, asked):
    assert names_of("text", source) == asked


@examples(15)
@given(
    st.lists(
        st.sampled_from(["{{ %s }}", "{%% if %s %%}.{%% endif %%}", "{{ 1 or %s }}", "{{ %s ~ 'x' }}"]), max_size=6
    )
)
def test_whatever_a_template_asks_it_is_not_published_before_its_sample_has_it(pieces):
    sample = {f"n{number}": "x" for number in range(len(pieces))}
    source = Source(text="".join(piece % name for piece, name in zip(pieces, sample, strict=True)))
    assert check(source, sample) == []
    for name in sample:
        lacking = {other: value for other, value in sample.items() if other != name}
        assert [problem.detail for problem in check(source, lacking)] == [f"{name} is not in the sample"]


SAMPLE = {"customer": {"name": "Ada"}, "items": [{"name": "Latte"}], "nil": None, "empty": [], "n": 1}


@pytest.mark.parametrize(
    "source",
    [
        "{{ customer.name }}{% for i in items %}{{ i.name }}{% endfor %}",
        "{% if link is defined %}{{ link }}{% endif %}",
        "{% if link is undefined %}-{% else %}{{ link }}{% endif %}",
        "{% if not (link is defined) %}-{% elif n %}{{ link }}{% endif %}",
        "{% if n and link is defined %}{{ link }}{% endif %}",
        "{% if link is undefined or link == 1 %}-{% else %}{{ link }}{% endif %}",
        "{{ link if link is defined }}{{ link is defined and link }}",
        "{{ link|default('-') }}{{ customer.nick|default }}",
        "{% for i in items if i.size is defined %}{{ i.size }}{% endfor %}",
        "{% for i in items %}{% if i.size|default %}-{% endif %}{% endfor %}",
        "{% if customer.a.b is defined %}{{ customer.a.b }}{% endif %}{{ customer.a.b.c|default }}",
        "{{ nil }}",
    ],
)
def test_a_template_whose_sample_has_it_all_may_be_published(source):
    assert check(Source(text=source), SAMPLE) == []


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        ("{{ customer.nick }}", "'dict object' has no attribute 'nick'"),
        ("{{ nobody.name }}", "nobody is not in the sample"),
        ("{% if n == 2 %}{{ missing }}{% endif %}", "missing is not in the sample"),
        ("{{ 1 if n else missing }}", "missing is not in the sample"),
        ("{% for i in items %}{{ i.size }}{% endfor %}", "'dict object' has no attribute 'size'"),
        ("{% if link is defined %}-{% endif %}{{ link }}", "'link' is undefined"),
        ("{% if link is defined or n %}{{ link }}{% endif %}", "'link' is undefined"),
        ("{{ nil.name }}", "'None' has no attribute 'name'"),
        ("{{ customer }}", "dict where text was expected"),
        ("{{ customer.name|money }}", "no currency"),
        ("{% for i in n %}{% endfor %}", "a loop is over a list"),
        ("{{ n", "line 1: unexpected end of template, expected 'end of print statement'."),
    ],
)
def test_a_template_whose_sample_lacks_something_may_not(source, detail):
    assert [(problem.pointer, problem.detail) for problem in check(Source(text=source), SAMPLE)] == [("/text", detail)]


def test_an_ordinary_template_is_rendered_in_less_than_a_millisecond():
    key = ("OrderUpdates", "order-confirmed")
    source, context = shipped()[key]["en"], samples()[key]

    def took(times=50):
        began = time.thread_time()
        for _ in range(times):
            render(source, context, locale="en", parts=["subject", "text", "html"])
        return (time.thread_time() - began) / times

    assert min(took() for _ in range(10)) < 0.001
