"""Shapes that cross a process: camelCase outside, immutable.

What is ours to refuse (a request's body) names no member that we don't know: a misspelt one would be left out in
silence. What others tell of (an event, an answer) may say more than we use.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic.alias_generators import to_camel


class Wire(BaseModel):
    """What we send, and what others tell: unknown members are passed over."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class RequestBody(Wire):
    """What a caller asks for, and whatever stands in it: an unknown member is refused, by its pointer."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)


def example(**members: Any) -> dict[str, JsonValue]:
    """A request as it may be sent, for OpenAPI and the explorer: `json_schema_extra` of the class."""
    return {"examples": [members]}
