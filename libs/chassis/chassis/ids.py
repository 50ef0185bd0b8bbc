"""Identifiers and the clock: UUIDv7 strings and aware UTC times."""

from datetime import UTC, datetime

import uuid_utils


def new_id() -> str:
    """A UUIDv7: unique without coordination, and sorted by time, so that keyset pages can order by it."""
    return str(uuid_utils.uuid7())


def now() -> datetime:
    return datetime.now(UTC)
