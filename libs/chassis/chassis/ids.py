"""Identifiers and the clock: UUIDv7 strings and aware UTC times."""

from datetime import UTC, datetime

import uuid_utils


def new_id() -> str:
    """A UUIDv7: unique without coordination, and sorted by time, so that keyset pages can order by it."""
    return str(uuid_utils.uuid7())


def first_id(at: float) -> str:
    """The first UUIDv7 that can be made at this Unix time: a range of ids is a range of time."""
    milliseconds = f"{min(max(0, int(at * 1000)), 2**48 - 1):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-0000-0000-000000000000"


def now() -> datetime:
    return datetime.now(UTC)
