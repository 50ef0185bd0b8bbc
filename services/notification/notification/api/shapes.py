"""What the routes' bodies have in common."""

from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field, StringConstraints

from notification.templates.versions import NAME, tag_of

_LONGEST_CONTEXT = 65_536  # bytes of JSON


def _storable(context: dict[str, Any]) -> dict[str, Any]:
    """JSON as parsed may hold what can't be written again: numbers of any length, half a surrogate pair."""
    try:
        size = len(orjson.dumps(context))
    except orjson.JSONEncodeError:
        raise ValueError("holds a number or a text that can't be kept") from None
    if size > _LONGEST_CONTEXT:
        raise ValueError(f"longer than {_LONGEST_CONTEXT} bytes")
    return context


def _tag(locale: str) -> str:
    if (tag := tag_of(locale)) is None:
        raise ValueError("not a locale")
    return tag


Name = Annotated[str, StringConstraints(pattern=NAME)]
Locale = Annotated[str, Field(max_length=35, examples=["pt-BR"]), AfterValidator(_tag)]
Context = Annotated[dict[str, Any], AfterValidator(_storable)]
