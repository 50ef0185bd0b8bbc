"""What a setting's value may be."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from chassis.flags.memory import FEATURES, KEY
from chassis.flags.rules import Rule
from chassis.problems import Invalid

_LONGEST = 4096  # bytes of JSON: every service keeps all of them in memory

Key = Annotated[str, StringConstraints(pattern=KEY)]
Feature = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,55}$")]  # what fits behind `Features:` in a key


def _storable(value: JsonValue) -> JsonValue:
    """JSON as parsed may hold what can't be written again: numbers of any length, halves of a surrogate pair, NaN."""
    if value is None:
        raise ValueError("null is no value: delete the setting, or disable it")
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError:
        text = b"null"
    if orjson.loads(text) != value:
        raise ValueError("holds a number or a text that can't be kept")
    if len(text) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST} bytes")
    return value


Value = Annotated[JsonValue, AfterValidator(_storable)]


class _Route(BaseModel):
    """As far as others than payment can tell; payment refuses what it can't use, and goes on with what it had."""

    model_config = ConfigDict(extra="allow")

    weights: dict[str, int] = Field(min_length=1)


_ROUTES: TypeAdapter[Any] = TypeAdapter(Annotated[list[_Route], Field(min_length=1)])


def _flag(value: JsonValue) -> None:
    """An object is a rule; whatever else is the flag's own value."""
    if isinstance(value, dict):
        Rule.model_validate(value)


_CHECKS: Mapping[str, Callable[[JsonValue], Any]] = {
    FEATURES: _flag,
    "Routing:Payments": _ROUTES.validate_python,
}


def check(key: str, value: JsonValue) -> None:
    """Raises Invalid where those who read this setting could make nothing of it."""
    for beginning, valid in _CHECKS.items():
        if key.startswith(beginning):
            try:
                valid(value)
            except ValidationError as error:
                first = error.errors()[0]
                pointer = "/value" + "".join(f"/{part}" for part in first["loc"])
                raise Invalid(pointer, str(first["msg"])) from None
