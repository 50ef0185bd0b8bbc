"""What the routes' bodies have in common."""

from collections.abc import Iterator
from math import isfinite, isnan
from typing import Annotated, Any, cast

import orjson
from pydantic import AfterValidator, Field, StringConstraints

from chassis.language_tags import LONGEST
from chassis.problems import malformed
from notification.templates.versions import NAME, tag_of

_LONGEST_CONTEXT = 65_536  # bytes of JSON


def _storable(context: dict[str, Any]) -> dict[str, Any]:
    """JSON as parsed may hold what can't be written again: numbers of any length, half a surrogate pair; and NaN, which
    is no JSON."""
    try:
        size = len(orjson.dumps(context))
    except orjson.JSONEncodeError:
        raise ValueError("holds a number or a text that can't be kept") from None
    for number in _endless(context):
        raise malformed() if isnan(number) else ValueError("holds a number that can't be kept")
    if size > _LONGEST_CONTEXT:
        raise ValueError(f"longer than {_LONGEST_CONTEXT} bytes")
    return context


def _endless(value: Any) -> Iterator[float]:
    """The floats in it that are no numbers: 1e400 is read as infinity."""
    match value:
        case float() if not isfinite(value):
            yield value
        case dict() | list():
            items = cast("dict[str, Any]", value).values() if isinstance(value, dict) else cast("list[Any]", value)
            for item in items:
                yield from _endless(item)
        case _:
            pass


def _tag(locale: str) -> str:
    if (tag := tag_of(locale)) is None:
        raise ValueError("not a locale")
    return tag


Name = Annotated[str, StringConstraints(pattern=NAME)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Locale = Annotated[str, Field(max_length=LONGEST, examples=["pt-BR"]), AfterValidator(_tag)]
Context = Annotated[dict[str, Any], AfterValidator(_storable)]
