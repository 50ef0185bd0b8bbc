"""When to ask again about an outcome nobody knows yet. One schedule for everyone who waits for the same answer."""

from datetime import timedelta

_FIRST = (2, 5, 10, 20)
_HALF_MINUTES = 120  # every 30 s for an hour
_TEN_MINUTES = 138  # every 10 min for the rest of the day
GIVE_UP = timedelta(hours=24)  # after this a person is told, and asking goes on


def recheck_delay(attempt: int) -> timedelta:
    """The wait after unknown outcome number `attempt` (from 0): 2, 5, 10, 20 s, 30 s, 10 min up to a day, 1 h."""
    if attempt < len(_FIRST):
        return timedelta(seconds=_FIRST[attempt])
    attempt -= len(_FIRST)
    if attempt < _HALF_MINUTES:
        return timedelta(seconds=30)
    if attempt < _HALF_MINUTES + _TEN_MINUTES:
        return timedelta(minutes=10)
    return timedelta(hours=1)
