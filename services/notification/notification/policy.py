"""Whether and when a message may reach its recipient: one pure function of the moment, their wishes and the past.

A withdrawal suppresses, quiet hours, caps and digests only hold. What a `critical` message (a security notice, a
password reset, a failed payment) may pass over:

- quiet hours, caps, digests and an unsubscribed category: yes. Unsubscribing ends mail of a kind (RFC 8058); a message
  that completes or protects what the recipient does with us is not of that kind (15 U.S.C. § 7702(17) exempts it).
- STOP and a channel switched off: no. STOP revokes the consent to any text message, whatever it says (47 CFR
  § 64.1200(a)(10); CTIA Messaging Principles, consumer opt-out). The next channel of the chain may carry it.

Wall clocks: quiet hours are what the recipient's clock shows, so an hour that it shows twice is quiet twice. A time
that it skips is reached when it skips it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from math import floor
from typing import Annotated, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import ConfigDict, Field, field_validator

from chassis.events import Wire
from notification.domain import ChannelName

LONGEST_HOLD = timedelta(days=7)

_DAY = timedelta(days=1)
_WINDOW = {"hour": timedelta(hours=1), "day": _DAY, "week": timedelta(weeks=1)}  # sliding, not the calendar's
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
        return self.channels.get(name, _EVERYTHING)

    def wants(self, category: str, channel: ChannelName) -> bool:
        return self.channel(channel).categories.get(category, True)

    def with_stop(self, channel: ChannelName) -> Self:
        return self.model_copy(update={"stopped": tuple(sorted({*self.stopped, channel}))})

    def unsubscribed(self, category: str, channel: ChannelName) -> Self:
        """An unsubscription is never refused: where no further category fits, the whole channel is switched off."""
        held = self.channel(channel)
        off = {name: False for name, wanted in held.categories.items() if not wanted} | {category: False}
        if len(off) <= _MOST_CATEGORIES:
            changed = ChannelPreference(enabled=held.enabled, categories=off)
        else:
            changed = ChannelPreference(enabled=False, categories=held.categories)
        return self.model_copy(update={"channels": {**self.channels, channel: changed}})


_EVERYTHING = ChannelPreference()


class Sent(NamedTuple):
    category: str
    channel: ChannelName
    at: datetime


@dataclass(frozen=True, slots=True)
class History:
    """What was sent to this recipient since `history_since`, in any order; critical ones count too, a digest once."""

    sent: Sequence[Sent] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """`created_at` says which digest it goes into: asked a second too late, it must not wait for the next one."""

    channel: ChannelName
    category: str
    created_at: datetime
    critical: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    pass


Reason = Literal["quiet-hours", "cap", "digest"]


@dataclass(frozen=True, slots=True)
class Hold:
    """Ask again at `until` (UTC, later than now, LONGEST_HOLD at most). `reason` is the rule that holds it longest;
    quiet hours are named only where nothing else holds it."""

    until: datetime
    reason: Reason


@dataclass(frozen=True, slots=True)
class Suppress:
    """Not now and not later."""

    reason: Literal["stopped", "channel-disabled", "unsubscribed", "cap", "too-late"]


Decision = Send | Hold | Suppress
_Wait = tuple[datetime, Reason]


def decide(now: datetime, preference: Preference, history: History, message: Message) -> Decision:
    if refused := _refused(preference, message):
        return refused
    if message.critical:
        return Send()
    now = now.astimezone(UTC)
    waits: list[_Wait] = [(now, "quiet-hours")]
    waits += _digest(preference, message) + _caps(now, preference, history, message)
    # A digest that has come and a cap that is free stay so: quiet hours, coming back every day, have the last word.
    latest, reason = max(waits, key=lambda wait: wait[0])
    if reason == "cap" and now - message.created_at >= LONGEST_HOLD:
        return Suppress("too-late")  # others were let through for a week: by now it is no news
    until = _after_quiet_hours(latest, preference)
    return Hold(min(until, now + LONGEST_HOLD), reason) if until > now else Send()


def gathers(preference: Preference, message: Message) -> bool:
    """Whether it waits to go out in a digest. By push none does: its wire knows one kind of message, an order's
    status, which is soon of no use."""
    return message.category in preference.digests and message.channel is not ChannelName.PUSH and not message.critical


def history_since(now: datetime, preference: Preference) -> datetime | None:
    """From when on `decide` must know what was sent; None where it needs nothing."""
    windows = [_WINDOW[cap.per] for cap in preference.caps if cap.limit > 0]
    return now.astimezone(UTC) - max(windows) if windows else None


def _refused(preference: Preference, message: Message) -> Suppress | None:
    if message.channel in preference.stopped:
        return Suppress("stopped")
    if not preference.channel(message.channel).enabled:
        return Suppress("channel-disabled")
    if message.critical:
        return None
    if not preference.wants(message.category, message.channel):
        return Suppress("unsubscribed")
    if any(cap.limit == 0 and cap.covers(message.category, message.channel) for cap in preference.caps):
        return Suppress("cap")
    return None


def _digest(preference: Preference, message: Message) -> list[_Wait]:
    if not gathers(preference, message):
        return []
    told = preference.digests[message.category]
    due = _reach(message.created_at.astimezone(UTC), _clock(told), ZoneInfo(preference.time_zone))
    return [(due, "digest")]


def _caps(now: datetime, preference: Preference, history: History, message: Message) -> list[_Wait]:
    caps = [cap for cap in preference.caps if cap.covers(message.category, message.channel)]
    return [(_free(now, cap, history), "cap") for cap in caps]


def _free(now: datetime, cap: Cap, history: History) -> datetime:
    """When the window holds fewer than the limit. What a clock that runs ahead dates later than now was sent now."""
    window = _WINDOW[cap.per]
    mine = (min(sent.at, now) for sent in history.sent if cap.covers(sent.category, sent.channel))
    within = sorted(at for at in mine if at > now - window)
    return within[-cap.limit].astimezone(UTC) + window if len(within) >= cap.limit else now


def _after_quiet_hours(at: datetime, preference: Preference) -> datetime:
    """`at`, or the end of the quiet hours that it lies in."""
    if preference.quiet_hours is None:
        return at
    start, end = _clock(preference.quiet_hours.start), _clock(preference.quiet_hours.end)
    zone = ZoneInfo(preference.time_zone)
    # Again where the clock skips the end and the next start with it.
    while (_shown(at, zone) - start) % _DAY < (end - start) % _DAY:
        at = _reach(at, end, zone)
    return at


# --- clocks: instants are UTC, since arithmetic within a zone would ignore its changes; a wall time is a timedelta ---


def _reach(at: datetime, wall: timedelta, zone: ZoneInfo) -> datetime:
    """The first moment, from `at` on, at which the clock there shows `wall` or skips it."""
    then = at + (wall - _shown(at, zone)) % _DAY
    jump = _offset(then, zone) - _offset(at, zone)
    return max(_change(at, then, zone), then - jump) if jump else then


def _change(at: datetime, then: datetime, zone: ZoneInfo) -> datetime:
    """The second between the two at which the clock is put forward or back."""
    before = _offset(at, zone)
    seconds = range(floor(at.timestamp()), floor(then.timestamp()) + 1)
    changed = bisect_left(seconds, 1, key=lambda second: _offset(datetime.fromtimestamp(second, UTC), zone) != before)
    return datetime.fromtimestamp(seconds[changed], UTC)


def _shown(at: datetime, zone: ZoneInfo) -> timedelta:
    local = at.astimezone(zone)
    return timedelta(hours=local.hour, minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def _clock(told: str) -> timedelta:
    return timedelta(hours=int(told[:2]), minutes=int(told[3:]))


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime", "Factory"})  # no place: the machine's own, and "not set"
