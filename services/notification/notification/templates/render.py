"""Rendering: a template and a context in, the words of every channel out, or why there are none."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import Template

from chassis import texts
from chassis.problems import FieldProblem
from notification.domain import Rendered
from notification.templates import locales
from notification.templates.limits import LONGEST_VALUE, RUN, SECONDS, Run, TooMuch
from notification.templates.sandbox import GIVEN, BadTemplate, compile_template, names_of
from notification.templates.shipped import PARTS, Source

_LONGEST_HTML = 500_000  # characters, rendered; any other part is as long as any text may be
_LONGEST_SUBJECT = 255


class NotRenderable(Exception):
    """Asks for what its context does not have, or for too much. Its text holds no personal data; `detail` is for the
    template's author and may quote the context."""

    def __init__(self, name: str, part: str, why: str, detail: str = "") -> None:
        super().__init__(f"template {name}/{part}: {why}")
        self.detail = detail or why


def check(source: Source, sample: Mapping[str, Any], *, locale: str = locales.DEFAULT) -> list[FieldProblem]:
    """What keeps a template from being published: what is wrong with its text; every name that the sample has not, in
    whatever branch; what goes wrong when it is rendered with it."""
    try:
        parts = compile_template(source)
    except BadTemplate as bad:
        return bad.errors
    problems = [
        FieldProblem(pointer=f"/{part}", detail=f"{name} is not in the sample")
        for part in parts
        for name in sorted(names_of(part, getattr(source, part)) - sample.keys())
    ]
    for part in () if problems else parts:
        try:
            render(source, sample, locale=locale, parts=[part])
        except NotRenderable as error:
            problems.append(FieldProblem(pointer=f"/{part}", detail=error.detail))
    return problems


def render(
    source: Source,
    context: Mapping[str, Any],
    *,
    locale: str,
    parts: Iterable[str] = PARTS,
    name: str = "",
    seconds: float = SECONDS,
) -> Rendered:
    """The `parts` the template has, the others ""; a subject is one line. `name` is for the error's text. Raises
    BadTemplate, NotRenderable."""
    compiled = compile_template(source)
    tag = locales.fallbacks(locale)[0]
    values = {**context, GIVEN: tag, RUN: Run(tag, seconds)}
    made = {part: _render(compiled[part], values, part, name) for part in parts if part in compiled}
    return Rendered(**{part: _FIT.get(part, str)(text) for part, text in made.items()})


def _render(template: Template, values: dict[str, Any], part: str, name: str) -> str:
    try:
        return "".join(_chunks(template, values, _LONGEST_HTML if part == "html" else LONGEST_VALUE))
    except TooMuch as limit:
        raise NotRenderable(name, part, str(limit)) from None
    except Exception as error:  # noqa: BLE001  a template may fail in any way that Python can, and quote its context
        raise NotRenderable(name, part, type(error).__name__, str(error)) from None


def _chunks(template: Template, values: dict[str, Any], longest: int) -> Iterator[str]:
    # Not Template.render, which would copy the context and join whatever comes.
    for chunk in template.root_render_func(template.new_context(values, shared=True)):
        yield chunk
        if (longest := longest - len(chunk)) < 0:
            raise TooMuch("size limit")


def one_line(text: str) -> str:
    """Fit for a header: a customer's name may hold line breaks and other controls, which would start a new one."""
    return " ".join(texts.one_line(text, by=" ").split())[:_LONGEST_SUBJECT]


def _sms(text: str) -> str:
    """CLDR writes amounts and times with spaces that GSM-7 has not: a single one would cost more than half the room."""
    return text.translate(_PLAIN_SPACES).strip()


_PLAIN_SPACES = dict.fromkeys(map(ord, "\u00a0\u2009\u202f"), " ")
_FIT: Mapping[str, Callable[[str], str]] = {"subject": one_line, "sms": _sms, "push": str.strip}
