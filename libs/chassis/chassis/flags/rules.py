"""What a flag says for whom: a rule that is data, in a setting below `Features:`."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from chassis.edge.auth import TENANT

_PLACES = 10_000  # hundredths of a percent


class Rule(BaseModel):
    """For a tenant that `tenants` names, what stands there; for others it is on for `percentage` of the targeting keys,
    which are users. The back office validates one by this; whoever asks takes it as the JSON that it is."""

    model_config = ConfigDict(extra="forbid")

    percentage: Annotated[float, Field(ge=0, le=100, strict=True)] = 0
    tenants: Annotated[dict[Annotated[str, StringConstraints(pattern=TENANT)], StrictBool], Field(max_length=1000)] = {}


def is_rule(value: Any) -> bool:
    return isinstance(value, dict) and cast("dict[str, Any]", value).keys() <= Rule.model_fields.keys()


def named(rule: Mapping[str, Any], tenant: str) -> bool | None:
    """What it says of the tenant by name; None where it doesn't name it."""
    return rule.get("tenants", {}).get(tenant)


def is_among(percentage: float, name: str, targeting_key: str) -> bool:
    """Whether this user is among so many percent: always the same ones, and of another flag's others."""
    digest = hashlib.sha256(f"{name}\0{targeting_key}".encode()).digest()
    return int.from_bytes(digest[:8]) % _PLACES < percentage * _PLACES / 100
