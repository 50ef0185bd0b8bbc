"""What a template may do to a value: filters and tests.

Each filter is a step, works no longer than what it is given is long, and makes no text that is too long.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, TypeAlias, cast

from jinja2 import Undefined
from jinja2.filters import FILTERS as JINJAS
from jinja2.filters import do_title, do_truncate, do_urlencode
from jinja2.runtime import Context
from jinja2.tests import TESTS as JINJAS_TESTS
from jinja2.utils import pass_context

from notification.templates import locales
from notification.templates.limits import LONGEST_VALUE, TooMuch, measured, run_of

_Function: TypeAlias = Callable[..., Any]


def text(value: Any) -> str:
    """Null is nothing. A list or mapping as Python writes it is a mistake, and so is a number that is none."""
    if value is None:
        return ""
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("no number")
    if not isinstance(value, str | int | float | Decimal | Undefined):
        raise TypeError(f"{type(value).__name__} where text was expected")
    return measured(str(value))  # of what is undefined it raises, and names it


def item(value: Any, key: Any) -> Any:
    """Never an attribute. Raises LookupError, TypeError."""
    if isinstance(value, Mapping | list | tuple) or (isinstance(value, str) and not isinstance(key, str)):
        return cast("Any", value)[key]
    raise TypeError("has no items")


def _metered(function: _Function, *, located: bool = False) -> _Function:
    """`located` ones are told the locale."""

    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        run = run_of(context)
        run.tick()
        if isinstance(value, Undefined):
            str(value)
        if located:
            kwargs["locale"] = run.locale
        result = function(value, *args, **kwargs)
        return measured(result) if isinstance(result, str) else result

    return call


def _textual(function: Callable[[str], str]) -> _Function:
    def of_text(value: Any) -> str:
        return function(text(value))

    return _metered(of_text)


@pass_context
def _loop_items(context: Context, value: Any) -> Iterator[Any]:
    if isinstance(value, Undefined) or not isinstance(value, list | tuple | Mapping):
        text(value)
        raise TypeError("a loop is over a list")
    run = run_of(context)
    for element in cast("Iterable[Any]", value):
        run.tick()
        yield element


def _same(value: Any) -> Any:
    return value


def _first(value: Any) -> Any:
    return item(value, 0)


def _last(value: Any) -> Any:
    return item(value, -1)


def _join(value: Any, separator: str = "", attribute: str | None = None) -> str:
    parts: list[str] = []
    left = LONGEST_VALUE
    for part in value:
        parts.append(text(part if attribute is None else item(part, attribute)))
        if (left := left - len(parts[-1]) - len(separator)) < 0:
            raise TooMuch("size limit")
    return text(separator).join(parts)


def _replace(value: Any, old: str, new: str) -> str:
    whole = text(value)
    if len(whole) + whole.count(old) * (len(new) - len(old)) > LONGEST_VALUE:
        raise TooMuch("size limit")
    return whole.replace(old, new)


def _truncate(value: Any, length: int = 255, killwords: bool = False, end: str = "...") -> str:
    no_environment = cast("Any", None)  # which is asked for the leeway only, where there is none
    return do_truncate(no_environment, text(value), length, killwords, end, 0)


# Jinja's own take the remainder of anything, and that of a text is its formatting, to any width.
def _even(value: Any) -> bool:
    return isinstance(value, int) and value % 2 == 0


def _odd(value: Any) -> bool:
    return isinstance(value, int) and value % 2 == 1


FILTERS: Mapping[str, _Function] = {
    **dict.fromkeys(("default", "d"), cast("_Function", JINJAS["default"])),
    **dict.fromkeys(("length", "count"), _metered(len)),
    "capitalize": _textual(str.capitalize),
    "date": _metered(locales.day, located=True),
    "datetime": _metered(locales.moment, located=True),
    "first": _metered(_first),
    "join": _metered(_join),
    "last": _metered(_last),
    "lower": _textual(str.lower),
    "money": _metered(locales.money, located=True),
    "number": _metered(locales.number, located=True),
    "replace": _metered(_replace),
    "title": _textual(do_title),
    "trim": _textual(str.strip),
    "truncate": _metered(_truncate),
    "upper": _textual(str.upper),
    "urlencode": _textual(do_urlencode),
}
# What the language puts around a loop's list, around what ~ joins and around what is compared.
INTERNAL: Mapping[str, _Function] = {
    "<each>": _loop_items,
    "<concat>": _metered(_join),
    "<tick>": _metered(_same),
}
TESTS: Mapping[str, _Function] = {
    **{
        name: cast("_Function", JINJAS_TESTS[name])
        for name in ("defined", "undefined", "none", "true", "false", "string", "number", "mapping")
    },
    "even": _even,
    "odd": _odd,
}
