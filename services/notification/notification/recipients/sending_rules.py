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
from math import floor
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from notification.domain import ChannelName
from notification.recipients.preferences import Cap, Preference

LONGEST_HOLD = timedelta(days=7)

_DAY = timedelta(days=1)
_WINDOW = {"hour": timedelta(hours=1), "day": _DAY, "week": timedelta(weeks=1)}  # sliding, not the calendar's


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
    wall = preference.digests[message.category]
    due = _reach(message.created_at.astimezone(UTC), _clock(wall), ZoneInfo(preference.time_zone))
    return [(due, "digest")]


def _caps(now: datetime, preference: Preference, history: History, message: Message) -> list[_Wait]:
    caps = [cap for cap in preference.caps if cap.covers(message.category, message.channel)]
    return [(_free(now, cap, history), "cap") for cap in caps]


def _free(now: datetime, cap: Cap, history: History) -> datetime:
    """When the window holds fewer than the limit. What a clock that runs ahead dates later than now was sent now."""
    window = _WINDOW[cap.per]
    covered = (min(sent.at, now) for sent in history.sent if cap.covers(sent.category, sent.channel))
    within = sorted(at for at in covered if at > now - window)
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
    if not (jump := _offset(then, zone) - _offset(at, zone)):
        return then
    change, then = _change(at, then, zone), then - jump
    return then - _DAY if then - _DAY >= change else max(change, then)  # put back, it shows an hour of the day twice


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


def _clock(wall: str) -> timedelta:
    return timedelta(hours=int(wall[:2]), minutes=int(wall[3:]))
