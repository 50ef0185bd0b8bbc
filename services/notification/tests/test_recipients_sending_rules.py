"""What `decide` says. The properties at the end run against a plain oracle that walks the clock minute by minute."""

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from notification.domain import ChannelName
from notification.recipients.preferences import ChannelPreference, Preference
from notification.recipients.sending_rules import (
    LONGEST_HOLD,
    Decision,
    History,
    Hold,
    Message,
    Send,
    Sent,
    Suppress,
    decide,
    history_since,
)
from stack.examples import examples

EMAIL, SMS, PUSH = ChannelName.EMAIL, ChannelName.SMS, ChannelName.PUSH
NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
WINDOWS = {"hour": HOUR, "day": DAY, "week": timedelta(weeks=1)}
ZONES = sorted(available_timezones() - {"localtime", "Factory"})


def wish(**fields: Any) -> Preference:
    """As it would arrive in a PUT."""
    return Preference.model_validate(fields)


def ask(
    preference: Preference,
    now: datetime = NOON,
    *,
    sent: tuple[Sent, ...] = (),
    category: str = "Marketing",
    channel: ChannelName = EMAIL,
    critical: bool = False,
    created_at: datetime | None = None,
) -> Decision:
    message = Message(channel=channel, category=category, critical=critical, created_at=created_at or now)
    return decide(now, preference, History(sent), message)


def quiet(start: str, end: str, zone: str = "UTC", **fields: Any) -> Preference:
    return wish(quietHours={"start": start, "end": end}, timeZone=zone, **fields)


def local(zone: str, *when: int, fold: int = 0) -> datetime:
    year, month, day, hour, minute = when
    return datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def marketing(*moments: datetime) -> tuple[Sent, ...]:
    return tuple(Sent("Marketing", EMAIL, at) for at in moments)


# --- withdrawal ---


def test_by_default_everything_is_sent_at_any_time():
    for channel in ChannelName:
        assert ask(Preference(), channel=channel) == Send()
    assert history_since(NOON, Preference()) is None


def test_stop_holds_back_even_what_is_critical_on_that_channel_alone():
    stopped = Preference().with_stop(SMS)
    assert ask(stopped, channel=SMS) == Suppress("stopped")
    assert ask(stopped, channel=SMS, critical=True) == Suppress("stopped")
    assert ask(stopped, channel=EMAIL) == Send()


def test_a_second_stop_is_the_same_as_one():
    assert Preference().with_stop(SMS).with_stop(PUSH).with_stop(SMS).stopped == (PUSH, SMS)


def test_a_channel_switched_off_holds_back_even_what_is_critical():
    off = wish(channels={"email": {"enabled": False}})
    assert ask(off) == Suppress("channel-disabled")
    assert ask(off, critical=True) == Suppress("channel-disabled")
    assert ask(off, channel=SMS) == Send()


def test_unsubscribing_ends_one_category_on_one_channel_but_not_what_is_critical():
    before = Preference()
    after = before.unsubscribed("Marketing", EMAIL)
    assert before == Preference()
    assert ask(after) == Suppress("unsubscribed")
    assert ask(after, critical=True) == Send()
    assert ask(after, category="Orders") == Send()
    assert ask(after, channel=SMS) == Send()


def test_unsubscribing_keeps_every_other_wish():
    before = quiet("22:00", "07:00", channels={"email": {"enabled": False, "categories": {"A": False, "B": True}}})
    after = before.with_stop(SMS).unsubscribed("C", EMAIL).unsubscribed("C", EMAIL).unsubscribed("D", PUSH)
    assert after.channel(EMAIL) == ChannelPreference(enabled=False, categories={"A": False, "C": False})
    assert after.channel(PUSH) == ChannelPreference(categories={"D": False})
    assert after.quiet_hours == before.quiet_hours
    assert after.stopped == (SMS,)


def test_an_unsubscription_that_no_longer_fits_switches_the_channel_off():
    full = wish(channels={"email": {"categories": {f"c-{n}": False for n in range(50)}}})
    assert ask(full.unsubscribed("c-1", EMAIL), category="Orders") == Send()
    assert ask(full.unsubscribed("Marketing", EMAIL)) == Suppress("channel-disabled")
    assert Preference.model_validate_json(full.unsubscribed("Marketing", EMAIL).model_dump_json(by_alias=True))


def test_fifty_categories_that_are_wanted_leave_room_to_unsubscribe():
    full = wish(channels={"email": {"categories": {f"c-{n}": True for n in range(50)}}})
    assert full.unsubscribed("Marketing", EMAIL).channel(EMAIL) == ChannelPreference(categories={"Marketing": False})


# --- quiet hours ---


@pytest.mark.parametrize(
    ("hour", "minute", "expected"),
    [
        (21, 59, Send()),
        (22, 0, Hold(datetime(2026, 6, 11, 7, tzinfo=UTC), "quiet-hours")),
        (0, 0, Hold(datetime(2026, 6, 10, 7, tzinfo=UTC), "quiet-hours")),
        (6, 59, Hold(datetime(2026, 6, 10, 7, tzinfo=UTC), "quiet-hours")),
        (7, 0, Send()),
        (12, 0, Send()),
    ],
)
def test_quiet_hours_over_midnight_include_their_start_and_not_their_end(hour: int, minute: int, expected: Decision):
    assert ask(quiet("22:00", "07:00"), NOON.replace(hour=hour, minute=minute)) == expected


def test_quiet_hours_within_a_day():
    nap = quiet("12:00", "14:30")
    assert ask(nap, NOON - timedelta(microseconds=1)) == Send()
    assert ask(nap, NOON) == Hold(NOON.replace(hour=14, minute=30), "quiet-hours")
    last = NOON.replace(hour=14, minute=30)
    assert ask(nap, last - timedelta(microseconds=1)) == Hold(last, "quiet-hours")
    assert ask(nap, last) == Send()


def test_quiet_hours_that_start_when_they_end_are_none():
    for hour in range(24):
        assert ask(quiet("07:00", "07:00"), NOON.replace(hour=hour)) == Send()


def test_what_is_critical_passes_quiet_hours_caps_and_digests():
    busy = quiet("00:00", "23:59", caps=[{"limit": 0, "per": "day"}], digests={"Marketing": "08:00"})
    assert ask(busy, critical=True, sent=marketing(NOON)) == Send()


@pytest.mark.parametrize(
    ("zone", "when", "until"),
    [
        ("Asia/Kathmandu", (2026, 6, 10, 23, 0), "2026-06-11T01:15:00+00:00"),  # +05:45
        ("Pacific/Chatham", (2026, 6, 10, 23, 0), "2026-06-10T18:15:00+00:00"),  # +12:45
        ("Pacific/Marquesas", (2026, 6, 10, 23, 0), "2026-06-11T16:30:00+00:00"),  # -09:30
        ("Pacific/Kiritimati", (2026, 6, 10, 23, 0), "2026-06-10T17:00:00+00:00"),  # +14:00
    ],
)
def test_quiet_hours_are_those_of_the_recipients_clock(zone: str, when: tuple[int, ...], until: str):
    held = ask(quiet("22:00", "07:00", zone), local(zone, *when))
    assert held == Hold(datetime.fromisoformat(until), "quiet-hours")


@pytest.mark.parametrize(
    ("zone", "start", "end", "now", "until"),
    [
        # The night is an hour shorter, or longer; half an hour on Lord Howe, two hours at Troll.
        ("Europe/Berlin", "22:00", "07:00", "2026-03-28T22:00:00+00:00", "2026-03-29T05:00:00+00:00"),
        ("Europe/Berlin", "22:00", "07:00", "2026-10-24T21:00:00+00:00", "2026-10-25T06:00:00+00:00"),
        ("Australia/Lord_Howe", "22:00", "07:00", "2026-10-03T12:00:00+00:00", "2026-10-03T20:00:00+00:00"),
        ("Australia/Lord_Howe", "22:00", "07:00", "2026-04-04T12:00:00+00:00", "2026-04-04T20:30:00+00:00"),
        ("Antarctica/Troll", "22:00", "07:00", "2026-03-28T23:00:00+00:00", "2026-03-29T05:00:00+00:00"),
        # An end that the clock skips (02:00 to 03:00) is reached as it skips it, a start that it skips likewise.
        ("Europe/Berlin", "22:00", "02:30", "2026-03-29T00:30:00+00:00", "2026-03-29T01:00:00+00:00"),
        ("Europe/Berlin", "02:30", "05:00", "2026-03-29T01:00:00+00:00", "2026-03-29T03:00:00+00:00"),
        # The clock skips the end and the next start with it: quiet until the next day's end.
        ("Europe/Berlin", "02:40", "02:20", "2026-03-28T12:00:00+00:00", "2026-03-30T00:20:00+00:00"),
        # 02:30 comes twice that night: quiet ends at the first, comes back with the second hour, and ends again.
        ("Europe/Berlin", "22:00", "02:30", "2026-10-24T23:59:00+00:00", "2026-10-25T00:30:00+00:00"),
        ("Europe/Berlin", "22:00", "02:30", "2026-10-25T01:10:00+00:00", "2026-10-25T01:30:00+00:00"),
        ("Europe/Berlin", "22:00", "03:00", "2026-10-24T23:59:00+00:00", "2026-10-25T02:00:00+00:00"),
        # Cairo goes from midnight to one.
        ("Africa/Cairo", "22:00", "00:00", "2026-04-23T20:30:00+00:00", "2026-04-23T22:00:00+00:00"),
        # Samoa had no 30 December 2011.
        ("Pacific/Apia", "22:00", "07:00", "2011-12-30T08:30:00+00:00", "2011-12-30T17:00:00+00:00"),
    ],
)
def test_quiet_hours_where_the_clock_is_put_forward_or_back(zone: str, start: str, end: str, now: str, until: str):
    held = ask(quiet(start, end, zone), datetime.fromisoformat(now))
    assert held == Hold(datetime.fromisoformat(until), "quiet-hours")


def test_between_the_two_ends_of_a_night_that_ends_twice_it_is_not_quiet():
    assert ask(quiet("22:00", "02:30", "Europe/Berlin"), local("Europe/Berlin", 2026, 10, 25, 2, 45)) == Send()
    again = ask(quiet("22:00", "02:30", "Europe/Berlin"), local("Europe/Berlin", 2026, 10, 25, 2, 45, fold=1))
    assert again == Send()


def test_a_moment_told_in_another_zone_is_the_same_moment():
    now = NOON.replace(hour=23).astimezone(ZoneInfo("Asia/Tokyo"))
    held = ask(quiet("22:00", "07:00"), now)
    assert held == Hold(datetime(2026, 6, 11, 7, tzinfo=UTC), "quiet-hours")
    assert isinstance(held, Hold)
    assert held.until.tzinfo is UTC


# --- digests ---


def test_a_digest_waits_for_its_time_of_the_day():
    morning = wish(digests={"Marketing": "08:00"}, timeZone="America/New_York")
    assert ask(morning) == Send()  # 12:00 UTC is 08:00 there
    later = NOON + MINUTE
    assert ask(morning, later) == Hold(NOON + DAY, "digest")
    assert ask(morning, later, category="Orders") == Send()


def test_a_digest_that_is_asked_for_late_does_not_wait_for_the_next():
    morning = wish(digests={"Marketing": "08:00"})
    due = datetime(2026, 6, 11, 8, tzinfo=UTC)
    assert ask(morning, due - timedelta(microseconds=1), created_at=NOON) == Hold(due, "digest")
    assert ask(morning, due, created_at=NOON) == Send()
    assert ask(morning, due + timedelta(seconds=3), created_at=NOON) == Send()
    assert ask(morning, due + 5 * DAY, created_at=NOON) == Send()


def test_a_digest_within_quiet_hours_comes_at_their_end():
    late = quiet("22:00", "07:00", digests={"Marketing": "23:30"})
    seven = datetime(2026, 6, 11, 7, tzinfo=UTC)
    assert ask(late) == Hold(seven, "digest")
    assert ask(late, NOON.replace(hour=23, minute=45), created_at=NOON) == Hold(seven, "quiet-hours")
    assert ask(late, seven, created_at=NOON) == Send()


def test_a_digest_at_a_time_that_the_clock_skips_or_shows_twice():
    skipped = wish(digests={"Marketing": "02:30"}, timeZone="Europe/Berlin")
    assert ask(skipped, local("Europe/Berlin", 2026, 3, 28, 12, 0)) == Hold(
        local("Europe/Berlin", 2026, 3, 29, 3, 0), "digest"
    )
    assert ask(skipped, local("Europe/Berlin", 2026, 10, 24, 12, 0)) == Hold(
        local("Europe/Berlin", 2026, 10, 25, 2, 30), "digest"
    )


# --- caps ---


def test_a_cap_holds_until_the_oldest_leaves_the_window():
    two = wish(caps=[{"limit": 2, "per": "day"}])
    first, second = NOON - 20 * HOUR, NOON - HOUR
    assert ask(two, sent=marketing(second)) == Send()
    assert ask(two, sent=marketing(second, first)) == Hold(first + DAY, "cap")
    assert ask(two, first + DAY, sent=marketing(first, second)) == Send()
    assert ask(two, first + DAY - timedelta(microseconds=1), sent=marketing(first, second)) == Hold(first + DAY, "cap")


def test_more_than_the_cap_allows_must_leave_the_window_one_by_one():
    one = wish(caps=[{"limit": 1, "per": "hour"}])
    sent = marketing(*(NOON - minutes * MINUTE for minutes in (50, 5, 30)))  # some of them were critical
    assert ask(one, sent=sent) == Hold(NOON + 55 * MINUTE, "cap")


def test_a_cap_counts_its_own_category_and_channel():
    narrow = wish(caps=[{"category": "Marketing", "channel": "sms", "limit": 1, "per": "week"}])
    sent = (Sent("Marketing", SMS, NOON - DAY),)
    assert ask(narrow, sent=sent, channel=SMS) == Hold(NOON + 6 * DAY, "cap")
    assert ask(narrow, sent=sent, channel=EMAIL) == Send()
    assert ask(narrow, sent=sent, channel=SMS, category="Orders") == Send()
    assert ask(narrow, sent=(Sent("Orders", SMS, NOON), Sent("Marketing", EMAIL, NOON)), channel=SMS) == Send()


def test_the_strictest_of_several_caps_decides():
    both = wish(caps=[{"limit": 1, "per": "hour"}, {"limit": 2, "per": "day"}])
    assert ask(both, sent=marketing(NOON - 2 * HOUR, NOON - 10 * MINUTE)) == Hold(NOON + 22 * HOUR, "cap")
    assert ask(both, sent=marketing(NOON - 10 * MINUTE)) == Hold(NOON + 50 * MINUTE, "cap")


def test_a_cap_of_none_suppresses():
    never = wish(caps=[{"channel": "sms", "limit": 0, "per": "day"}])
    assert ask(never, channel=SMS) == Suppress("cap")
    assert ask(never, channel=SMS, critical=True) == Send()
    assert ask(never) == Send()
    assert history_since(NOON, never) is None


def test_a_cap_that_frees_within_quiet_hours_waits_for_their_end():
    night = quiet("22:00", "07:00", caps=[{"limit": 1, "per": "day"}])
    sent = marketing(NOON.replace(day=9, hour=23))
    assert ask(night, sent=sent) == Hold(datetime(2026, 6, 11, 7, tzinfo=UTC), "cap")


def test_no_hold_is_longer_than_a_week():
    night = quiet("11:00", "10:00", caps=[{"limit": 1, "per": "week"}])
    now = NOON.replace(hour=10, minute=30)
    assert ask(night, now, sent=marketing(now - MINUTE)) == Hold(now + 7 * DAY - MINUTE, "cap")
    later = now + 29 * MINUTE
    assert ask(night, later, sent=marketing(later)) == Hold(later + 7 * DAY, "cap")
    nearly = quiet("10:59", "10:58", caps=[{"limit": 1, "per": "week"}])
    assert ask(nearly, later - MINUTE, sent=marketing(later - MINUTE)) == Hold(later - MINUTE + 7 * DAY, "cap")
    assert ask(nearly, later, sent=marketing(later)) == Hold(later + LONGEST_HOLD, "cap")


def test_what_a_cap_has_kept_for_a_week_is_no_news_any_more():
    one = wish(caps=[{"limit": 1, "per": "day"}])
    lately = marketing(NOON - HOUR)
    assert ask(one, sent=lately, created_at=NOON - LONGEST_HOLD + MINUTE) == Hold(NOON + DAY - HOUR, "cap")
    assert ask(one, sent=lately, created_at=NOON - LONGEST_HOLD) == Suppress("too-late")
    assert ask(one, created_at=NOON - LONGEST_HOLD) == Send()


def test_what_a_fast_clock_dates_into_the_future_holds_no_longer_than_the_window():
    one = wish(caps=[{"limit": 1, "per": "hour"}])
    assert ask(one, sent=marketing(NOON + 30 * DAY)) == Hold(NOON + HOUR, "cap")


def test_the_history_reaches_back_as_far_as_the_longest_cap():
    caps = [{"limit": 5, "per": "hour"}, {"limit": 9, "per": "week"}, {"limit": 7, "per": "day"}]
    assert history_since(NOON, wish(caps=caps)) == NOON - 7 * DAY
    assert history_since(NOON, wish(caps=caps[:1])) == NOON - HOUR


# --- the wire ---


def test_a_preference_is_camel_case_outside_and_comes_back_as_it_was():
    body = {
        "channels": {"email": {"enabled": True, "categories": {"Marketing": False}}},
        "stopped": ["sms"],
        "timeZone": "Australia/Lord_Howe",
        "quietHours": {"start": "22:00", "end": "07:00"},
        "digests": {"Orders": "08:00"},
        "caps": [{"category": None, "channel": "sms", "limit": 3, "per": "day"}],
    }
    assert Preference.model_validate(body).model_dump(mode="json", by_alias=True) == body
    assert Preference.model_validate_json(Preference().model_dump_json(by_alias=True)) == Preference()


@pytest.mark.parametrize(
    "body",
    [
        {"quiethours": None},
        {"channels": {"fax": {}}},
        {"channels": {"email": {"enabeld": False}}},
        {"channels": {"email": {"categories": {"": False}}}},
        {"channels": {"email": {"categories": {"a\nb": False}}}},
        {"channels": {"email": {"categories": {"a" * 101: False}}}},
        {"channels": {"email": {"categories": {f"c-{n}": False for n in range(51)}}}},
        {"quietHours": {"start": "22:00"}},
        {"quietHours": {"start": "22:00", "end": "24:00"}},
        {"quietHours": {"start": "22:00", "end": "7:00"}},
        {"quietHours": {"start": "22:00", "end": "07:60"}},
        {"quietHours": {"start": "22:00", "end": "07:00\n"}},
        {"quietHours": {"start": "22:00", "end": "\u0660\u0667:\u0660\u0660"}},
        {"quietHours": {"start": "22:00", "end": "07:00", "days": []}},
        {"digests": {"Orders": "8"}},
        {"digests": {f"c-{n}": "08:00" for n in range(51)}},
        {"caps": [{"limit": -1, "per": "day"}]},
        {"caps": [{"limit": 1001, "per": "day"}]},
        {"caps": [{"limit": 1, "per": "month"}]},
        {"caps": [{"limit": 1}]},
        {"caps": [{"limit": 1, "per": "day"}] * 21},
        {"stopped": ["sms"] * (len(ChannelName) + 1)},
        *(
            {"timeZone": zone}
            for zone in ("", "Mars/Olympus", "europe/berlin", "America", "../etc/passwd", "localtime")
        ),
        {"timeZone": "a" * 100_000},
        {"timeZone": None},
    ],
)
def test_a_wish_that_cannot_be_granted_is_refused(body: dict[str, Any]):
    with pytest.raises(ValidationError):
        Preference.model_validate(body)


def test_a_preference_does_not_change():
    with pytest.raises(ValidationError):
        Preference().time_zone = "Asia/Tokyo"  # pyright: ignore[reportAttributeAccessIssue]


# --- whatever is wished and whenever it is asked ---

CATEGORIES = ("Marketing", "Orders")
clocks = st.times().map(lambda at: at.strftime("%H:%M"))
zones = st.sampled_from(ZONES)
moments = st.integers(0, 38 * 366 * 86_400_000).map(
    lambda ms: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
channels = st.sampled_from(list(ChannelName))
categories = st.sampled_from(CATEGORIES)
nights = st.fixed_dictionaries({"start": clocks, "end": clocks})
caps = st.fixed_dictionaries(
    {
        "category": st.none() | categories,
        "channel": st.none() | channels,
        "limit": st.integers(1, 3),
        "per": st.sampled_from(list(WINDOWS)),
    }
)
preferences = st.builds(
    wish,
    timeZone=zones,
    quietHours=st.none() | nights,
    digests=st.dictionaries(categories, clocks),
    caps=st.lists(caps, max_size=3),
)


@st.composite
def near_a_change(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone and a whole minute, mostly within two days of a change of its clock."""
    zone = draw(zones)
    day = datetime(draw(st.integers(2000, 2036)), 1, 1, tzinfo=UTC)
    days = [day + n * DAY for n in range(366)]
    changes = [at for at, then in pairwise(days) if at.astimezone(ZoneInfo(zone)).utcoffset() != offset_at(then, zone)]
    at = draw(st.sampled_from(changes or days))
    return zone, at + draw(st.integers(-24 * 60, 48 * 60)) * MINUTE


def offset_at(at: datetime, zone: str) -> timedelta | None:
    return at.astimezone(ZoneInfo(zone)).utcoffset()


def is_quiet(at: datetime, preference: Preference) -> bool:
    if preference.quiet_hours is None:
        return False
    shown = at.astimezone(ZoneInfo(preference.time_zone)).time()
    start, end = time.fromisoformat(preference.quiet_hours.start), time.fromisoformat(preference.quiet_hours.end)
    return start <= shown < end if start <= end else shown >= start or shown < end


def first_shown_or_skipped(at: datetime, wall: str, zone: str) -> datetime:
    """The oracle: the clock on the wall is looked at every minute."""
    shown = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    if shown.strftime("%H:%M") == wall:
        return at
    while True:
        at, before = at + MINUTE, shown
        shown = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        days = [before.date() + n * DAY for n in range(3)]  # three, for Samoa once skipped one
        if any(before < datetime.combine(day, time.fromisoformat(wall)) <= shown for day in days):
            return at


@examples(25)
@given(near_a_change(), clocks)
@example(("Pacific/Apia", datetime(2011, 12, 29, 20, tzinfo=UTC)), "08:00")
@example(("Africa/Cairo", datetime(2026, 4, 23, 12, tzinfo=UTC)), "00:30")
@example(("Brazil/DeNoronha", datetime(2000, 2, 27, 0, 2, tzinfo=UTC)), "23:01")
def test_a_digest_comes_the_first_time_the_clock_shows_or_skips_its_time(where: tuple[str, datetime], wall: str):
    zone, now = where
    due = first_shown_or_skipped(now, wall, zone)
    answer = ask(wish(digests={"Marketing": wall}, timeZone=zone), now)
    assert answer == (Hold(due, "digest") if due > now else Send())


@examples(25)
@given(near_a_change(), clocks, clocks)
@example(("Australia/Lord_Howe", datetime(2026, 4, 4, 12, tzinfo=UTC)), "22:00", "01:45")
def test_quiet_hours_end_the_first_time_the_clock_shows_or_skips_their_end(
    where: tuple[str, datetime], start: str, end: str
):
    zone, now = where
    preference = quiet(start, end, zone)
    assume(is_quiet(now, preference))
    until = now
    while is_quiet(until, preference):
        until = first_shown_or_skipped(until, end, zone)
    assert ask(preference, now) == Hold(until, "quiet-hours")


@examples(40)
@given(moments, preferences, channels, categories, st.data())
def test_nothing_but_what_is_critical_is_sent_in_quiet_hours_and_no_hold_is_past_or_endless(
    now: datetime, preference: Preference, channel: ChannelName, category: str, data: st.DataObject
):
    critical = data.draw(st.booleans())
    past = st.tuples(categories, channels, st.timedeltas(timedelta(0), timedelta(days=8)).map(lambda ago: now - ago))
    sent = tuple(Sent(*one) for one in data.draw(st.lists(past, max_size=8)))
    created_at = now - data.draw(st.timedeltas(timedelta(0), timedelta(days=2)))
    answer = ask(
        preference, now, sent=sent, channel=channel, category=category, critical=critical, created_at=created_at
    )
    if critical:
        assert answer == Send()
    asked = 0
    while isinstance(answer, Hold):
        assert now < answer.until <= now + LONGEST_HOLD
        asked, now = asked + 1, answer.until
        answer = ask(preference, now, channel=channel, category=category, created_at=created_at)
    assert answer == Send()
    assert asked <= 2
    assert critical or not is_quiet(now, preference)


@given(moments, preferences, channels, categories, st.booleans())
def test_stop_always_suppresses(
    now: datetime, preference: Preference, channel: ChannelName, category: str, critical: bool
):
    stopped = preference.with_stop(channel)
    assert ask(stopped, now, channel=channel, category=category, critical=critical) == Suppress("stopped")


@examples(15)
@given(moments, preferences, st.lists(st.tuples(categories, channels, st.integers(0, 600)), max_size=25))
def test_however_many_messages_come_no_cap_is_exceeded_and_all_are_sent_or_were_kept_for_a_week(
    now: datetime, preference: Preference, arrivals: list[tuple[str, ChannelName, int]]
):
    waiting = [(now + minutes * MINUTE, category, channel) for category, channel, minutes in arrivals]
    created = {number: at for number, (at, _, _) in enumerate(waiting)}
    due = dict(created)
    sent: list[Sent] = []
    while due:
        number = min(due, key=lambda one: due[one])
        at, (_, category, channel) = due[number], waiting[number]
        since = history_since(at, preference)
        known = tuple(one for one in sent if since and one.at > since)
        answer = ask(preference, at, sent=known, channel=channel, category=category, created_at=created[number])
        if isinstance(answer, Hold):
            due[number] = answer.until
            continue
        del due[number]
        if answer == Send():
            sent.append(Sent(category, channel, at))
        else:
            assert answer == Suppress("too-late")
            assert at - created[number] >= LONGEST_HOLD
    for cap in preference.caps:
        mine = [one.at for one in sent if cap.covers(one.category, one.channel)]
        assert all(later - at >= WINDOWS[cap.per] for at, later in zip(mine, mine[cap.limit :], strict=False))
    assert not any(is_quiet(one.at, preference) for one in sent)
