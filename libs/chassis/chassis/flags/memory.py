"""What is set, in memory: asking waits for nobody."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from openfeature import api
from openfeature.evaluation_context import EvaluationContext

from chassis.changes.feed import Change, Changes, Entry

# What concerns all tenants: it is no tenant's, and only the operator's admins may set it.
SYSTEM_WIDE = ("Routing:", "Recurring:")
FEATURES = "Features:"

KEY = r"^[A-Za-z][A-Za-z0-9._:-]{0,63}$"

_TOPIC = "settings"  # of the change feed
_RECENT = timedelta(minutes=10)  # longer than from the reading of a table to the beginning of the feed


def is_system_wide(key: str) -> bool:
    return key.startswith(SYSTEM_WIDE)


def owner(key: str, tenant: str) -> str:
    """Whose the setting is that `tenant` calls `key`; "" is everybody's."""
    return "" if is_system_wide(key) else tenant


class Setting(NamedTuple):
    """`value` is JSON-able; None where nothing is set, or it is passed over."""

    tenant: str
    key: str
    version: int
    value: Any


class Flags:
    """A value is what is set, else what the back office was configured with, else the default. Nobody may change one
    that was given out."""

    def __init__(self) -> None:
        self._settings: dict[tuple[str, str], Setting] = {}
        self.configured: Mapping[str, Any] = {}
        self._client = api.get_client()

    def value(self, key: str, *, tenant: str = "", default: Any = None) -> Any:
        """The same object until it changes. Of a system-wide key the tenant makes no difference."""
        found = self._settings.get((owner(key, tenant), key))
        if found is not None and found.value is not None:
            return found.value
        return self.configured.get(key, default)

    def is_on(self, name: str, *, tenant: str, targeting_key: str) -> bool:
        """The flag `name`, as OpenFeature says it for a user of the tenant; false where there is none."""
        if self.value(FEATURES + name, tenant=tenant) is None:  # as nearly always, and its client takes 50 µs
            return False
        return self._client.get_boolean_value(
            name, False, EvaluationContext(targeting_key=targeting_key, attributes={"tenant": tenant})
        )

    def is_news(self, setting: Setting) -> bool:
        known = self._settings.get((setting.tenant, setting.key))
        return known is None or setting.version > known.version

    def put(self, setting: Setting) -> None:
        """An older version never overwrites a newer one."""
        if self.is_news(setting):
            self._settings[setting.tenant, setting.key] = setting

    def follow(self, changes: Changes) -> None:
        """Hear what any replica takes, from just before the service's table is read."""
        changes.on_change(_TOPIC, self._hear, recent=_RECENT)

    def _hear(self, change: Change) -> None:
        self.put(Setting(change.tenant, change.key, **change.data))


def told(setting: Setting) -> Entry:
    """For the change feed."""
    return Entry(setting.tenant, _TOPIC, setting.key, {"version": setting.version, "value": setting.value})
