"""What recipients want: by channel and category, at what hours, how often."""

from collections.abc import Callable, Collection
from functools import cache, lru_cache
from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

import sqlalchemy as sa
from pydantic import ConfigDict, Field, field_validator

from chassis.db import upsert
from chassis.ids import now
from chassis.wire import Wire
from notification.domain import ChannelName, ConcurrencyConflict
from notification.tables import preferences

_MOST_CATEGORIES = 50
_MOST_CAPS = 20

Category = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]
LocalTime = Annotated[str, Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]  # "22:00", on the recipient's clock


class _Wish(Wire):
    """Unknown fields are refused: a misspelt wish that changes nothing would look granted."""

    model_config = ConfigDict(extra="forbid")


class ChannelPreference(_Wish):
    """`categories` holds opt-outs as false; one that is absent or true is wanted."""

    enabled: bool = True
    categories: dict[Category, bool] = Field(default_factory=dict[str, bool], max_length=_MOST_CATEGORIES)


class QuietHours(_Wish):
    """From `start` (inclusive) to `end` (exclusive), over midnight where end is earlier; none where they are equal."""

    start: LocalTime
    end: LocalTime


class Cap(_Wish):
    """At most `limit` in any sliding window, of one category or channel or (None) of all together. 0 is never."""

    category: Category | None = None
    channel: ChannelName | None = None
    limit: int = Field(ge=0, le=1000)
    per: Literal["hour", "day", "week"]

    def covers(self, category: str, channel: ChannelName) -> bool:
        return self.category in {None, category} and self.channel in {None, channel}


class Preference(_Wish):
    """What one recipient wants; the default is everything, at any time. The wire shape of GET and PUT, camelCase.

    `digests` gives a category's local time of the day. `stopped` tells by which channels they have said STOP. It is
    the word of an address, filled in for whoever asks and never kept with the rest: a form that leaves it out must not
    undo it.
    """

    channels: dict[ChannelName, ChannelPreference] = Field(default_factory=dict[ChannelName, ChannelPreference])
    stopped: tuple[ChannelName, ...] = Field(default=(), max_length=len(ChannelName))
    time_zone: str = "UTC"
    quiet_hours: QuietHours | None = None
    digests: dict[Category, LocalTime] = Field(default_factory=dict[str, str], max_length=_MOST_CATEGORIES)
    caps: tuple[Cap, ...] = Field(default=(), max_length=_MOST_CAPS)

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in _zones():
            raise ValueError("not a time zone of the IANA database")
        return name

    def channel(self, name: ChannelName) -> ChannelPreference:
        return self.channels.get(name, _UNRESTRICTED)

    def wants(self, category: str, channel: ChannelName) -> bool:
        return self.channel(channel).categories.get(category, True)

    def with_stop(self, channel: ChannelName) -> Self:
        return self.model_copy(update={"stopped": tuple(sorted({*self.stopped, channel}))})

    def unsubscribed(self, category: str, channel: ChannelName) -> Self:
        """An unsubscription is never refused: where no further category fits, the whole channel is switched off."""
        held = self.channel(channel)
        off = {name: False for name, is_wanted in held.categories.items() if not is_wanted} | {category: False}
        if len(off) <= _MOST_CATEGORIES:
            changed = ChannelPreference(enabled=held.enabled, categories=off)
        else:
            changed = ChannelPreference(enabled=False, categories=held.categories)
        return self.model_copy(update={"channels": {**self.channels, channel: changed}})


_UNRESTRICTED = ChannelPreference()


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime", "Factory"})  # no place: the machine's own, and "not set"


_DEFAULT = Preference()


class Preferences:
    """What a tenant's recipients want, `stopped` apart, which is their phones' word. Whoever never said anything wants
    everything, at any time."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def of(self, recipient_id: str) -> tuple[Preference, int]:
        """The preference and its version; the default and 0 where there is none."""
        row = self._conn.execute(_PREFERENCE, {"tenant_is": self._tenant, "id_is": recipient_id}).one_or_none()
        return (_DEFAULT, 0) if row is None else (_parsed(row.document), row.version)

    def of_many(self, recipient_ids: Collection[str]) -> dict[str, Preference]:
        """Only of those that have one."""
        recipients = {"tenant_is": self._tenant, "ids": list(recipient_ids)}
        return {row.recipient_id: _parsed(row.document) for row in self._conn.execute(_PREFERENCES, recipients)}

    def save(self, recipient_id: str, preference: Preference, version: int) -> int:
        """The new version; `version` is the one that was read. Raises ConcurrencyConflict."""
        key = {"tenant": self._tenant, "recipient_id": recipient_id}
        document = preference.model_dump_json(by_alias=True, exclude={"stopped"})
        values = {"document": document, "version": version + 1, "updated_at": now()}
        if version == 0:
            statement = upsert(self._conn, preferences).values(key | values).on_conflict_do_nothing()
        else:
            same = (preferences.c[name] == value for name, value in (key | {"version": version}).items())
            statement = sa.update(preferences).where(*same).values(values)
        if self._conn.execute(statement).rowcount != 1:
            raise ConcurrencyConflict(self.of(recipient_id)[1])
        return version + 1

    def change(self, recipient_id: str, wish: Callable[[Preference], Preference]) -> Preference:
        """What `wish` makes of what is held, whoever else is changing it: each conflict is another's success."""
        while True:
            held, version = self.of(recipient_id)
            changed = wish(held)
            if changed == held:
                return held
            try:
                self.save(recipient_id, changed, version)
            except ConcurrencyConflict:
                continue
            return changed


_OF_TENANT = preferences.c.tenant == sa.bindparam("tenant_is")
_PREFERENCE = sa.select(preferences).where(_OF_TENANT, preferences.c.recipient_id == sa.bindparam("id_is"))
_PREFERENCES = sa.select(preferences.c.recipient_id, preferences.c.document).where(
    _OF_TENANT, preferences.c.recipient_id.in_(sa.bindparam("ids", expanding=True))
)


@lru_cache(maxsize=1024)
def _parsed(document: str) -> Preference:
    """Remembered: many recipients want the same, and each message asks."""
    return Preference.model_validate_json(document)
