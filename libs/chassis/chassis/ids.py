"""Identifiers and the clock: UUIDv7 strings and aware UTC times."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import uuid_utils
from pydantic import AfterValidator


def new_id() -> str:
    """A UUIDv7: unique without coordination, and sorted by time, so that keyset pages can order by it."""
    return str(uuid_utils.uuid7())


def first_id(at: float) -> str:
    """The first UUIDv7 that can be made at this Unix time: a range of ids is a range of time."""
    milliseconds = f"{min(max(0, int(at * 1000)), 2**48 - 1):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-0000-0000-000000000000"


def id_or(refusal: Callable[[], Exception]) -> AfterValidator:
    """For an id in a path: what is none of ours names nothing, and is not asked of a database."""

    def parse(text: str) -> str:
        try:
            return str(uuid.UUID(text))
        except ValueError:
            raise refusal() from None

    return AfterValidator(parse)


def now() -> datetime:
    return datetime.now(UTC)
