"""Which provider a charge goes to, and which others it may turn to: rules that are data, PAYMENT_ROUTES or, while it is
set, the setting `Routing:Payments`.

The first rule that fits decides. Its weights share the charges out by the charge's key, so that a repetition comes to
the same provider; the others, the heaviest first, are whom it may turn to. A weight of 0 is for that alone.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from chassis.flags.memory import Flags

log = structlog.get_logger()

SETTING = "Routing:Payments"


class Rule(BaseModel):
    """`currencies` empty is every currency; amounts in major units, `below` exclusive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currencies: frozenset[str] = frozenset()
    at_least: Decimal = Decimal(0)
    below: Decimal | None = None
    weights: Mapping[str, int] = Field(min_length=1)

    @model_validator(mode="after")
    def _somebody_is_chosen(self) -> "Rule":
        if min(self.weights.values()) < 0 or not any(self.weights.values()):
            raise ValueError("weights are 0 or more, and one is more")
        return self

    def fits(self, amount: Decimal, currency: str) -> bool:
        in_range = amount >= self.at_least and (self.below is None or amount < self.below)
        return in_range and (not self.currencies or currency in self.currencies)


Rules = Sequence[Rule]

_RULES: TypeAdapter[tuple[Rule, ...]] = TypeAdapter(tuple[Rule, ...])

# A provider of ours is chosen, the other stands in for it.
DEFAULT: tuple[Rule, ...] = (Rule(weights={"a": 1, "b": 0}),)


def route(rules: Rules, *, key: str, amount: Decimal, currency: str) -> list[str]:
    """The provider to charge at, and after it those to turn to, in order; empty where no rule takes it."""
    rule = next((rule for rule in rules if rule.fits(amount, currency)), None)
    if rule is None:
        return []
    chosen = _share(rule.weights, key)
    others = sorted((name for name in rule.weights if name != chosen), key=lambda name: (-rule.weights[name], name))
    return [chosen, *others]


def _share(weights: Mapping[str, int], key: str) -> str:
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % sum(weights.values())
    for name, weight in sorted(weights.items()):
        if place < weight:
            return name
        place -= weight
    raise AssertionError("the weights cover every place")


class Routes:
    """The rules by which new charges go. Of a setting that can't be used nothing is taken: the last good rules stay."""

    def __init__(self, rules: Rules, *, providers: Collection[str], flags: Flags) -> None:
        """Raises ValueError where `rules`, those of the environment, name providers that are not here."""
        if strangers := _strangers(rules, providers):
            raise ValueError(f"PAYMENT_ROUTES names providers that are not here: {', '.join(strangers)}")
        self._of_environment = self._rules = rules
        self._providers = providers
        self._flags = flags
        self._seen: Any = None  # the setting, as it was when it was last looked at

    @property
    def rules(self) -> Rules:
        if (setting := self._flags.value(SETTING)) is not self._seen:
            self._seen = setting
            self._rules = self._of_environment if setting is None else self._usable(setting)
        return self._rules

    def _usable(self, setting: Any) -> Rules:
        try:
            rules = _RULES.validate_python(setting)
        except ValidationError as invalid:
            return self._refused([each["type"] for each in invalid.errors()])
        strangers = _strangers(rules, self._providers)
        return self._refused(strangers) if strangers or not rules else rules

    def _refused(self, reason: list[str]) -> Rules:
        log.error("routes.refused", setting=SETTING, reason=reason)
        return self._rules


def _strangers(rules: Rules, providers: Collection[str]) -> list[str]:
    return sorted({name for rule in rules for name in rule.weights} - set(providers))
