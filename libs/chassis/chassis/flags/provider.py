"""An OpenFeature provider (openfeature.dev) over the settings: the flag `x` is the setting `Features:x` of the tenant
that the evaluation context names (attribute `tenant`). A plain value is the flag's; an object that is a rule decides
for a boolean one. It never waits for anybody."""

# ruff: noqa: ARG002  the signatures are OpenFeature's; its client puts the default in an error's place

from collections.abc import Mapping, Sequence
from typing import Any

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, TargetingKeyMissingError, TypeMismatchError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from chassis.flags import rules
from chassis.flags.memory import FEATURES, Flags

_NOBODY = EvaluationContext()


def provide(flags: Flags) -> None:
    """From here on whoever asks OpenFeature in this process is answered from `flags`; until now it was not ready."""
    api.set_provider_and_wait(SettingsProvider(flags))


class SettingsProvider(AbstractProvider):
    def __init__(self, flags: Flags) -> None:
        super().__init__()
        self._flags = flags

    def get_metadata(self) -> Metadata:
        return Metadata(name="Brewline settings")

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        value = self._value(flag_key, evaluation_context)
        if rules.is_rule(value):
            return _by_rule(value, flag_key, evaluation_context or _NOBODY)
        return _static(value, bool)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return _static(self._value(flag_key, evaluation_context), str)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return _static(self._value(flag_key, evaluation_context), int)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        value = self._value(flag_key, evaluation_context)
        return _static(float(value) if type(value) is int else value, float)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        return _static(self._value(flag_key, evaluation_context), dict, list)

    def _value(self, flag_key: str, context: EvaluationContext | None) -> Any:
        tenant = str((context or _NOBODY).attributes.get("tenant", ""))
        if (value := self._flags.value(FEATURES + flag_key, tenant=tenant)) is None:
            raise FlagNotFoundError
        return value


def _static(value: Any, *types: type[Any]) -> FlagResolutionDetails[Any]:
    if type(value) not in types:
        raise TypeMismatchError(f"it is {type(value).__name__}")
    return FlagResolutionDetails(value=value, reason=Reason.STATIC)


def _by_rule(rule: Mapping[str, Any], flag_key: str, context: EvaluationContext) -> FlagResolutionDetails[bool]:
    if (said := rules.named(rule, str(context.attributes.get("tenant", "")))) is not None:
        return FlagResolutionDetails(value=said, reason=Reason.TARGETING_MATCH)
    if (percentage := rule.get("percentage")) is None:
        return FlagResolutionDetails(value=False, reason=Reason.DEFAULT)
    if not context.targeting_key:
        raise TargetingKeyMissingError
    among = rules.is_among(percentage, flag_key, context.targeting_key)
    return FlagResolutionDetails(value=among, reason=Reason.SPLIT)
