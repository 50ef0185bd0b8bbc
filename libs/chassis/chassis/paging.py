"""Keyset cursors, opaque to callers: the id (UUIDv7) of a page's last row, or the texts of a longer key."""

import base64
import binascii
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import orjson
from fastapi import Query

from chassis.problems import Invalid

Row = TypeVar("Row")

# What a list is asked for in its query: rows of a page, and `next` of the page before.
Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=64)]


def next_cursor(found: Sequence[Row], limit: int, row_id: Callable[[Row], str]) -> str | None:
    """Of the page behind the first `limit` of `found`, of which one more was looked for; None where there is none."""
    return encode_cursor(row_id(found[limit - 1])) if len(found) > limit else None


def encode_cursor(row_id: str) -> str:
    return base64.urlsafe_b64encode(uuid.UUID(row_id).bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """Raises Invalid for what `encode_cursor` has not made."""
    try:
        row_id = uuid.UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except (ValueError, binascii.Error):
        row_id = None
    if row_id is None or row_id.version != 7 or encode_cursor(str(row_id)) != cursor:
        raise _not_ours()
    return str(row_id)


def encode_keys(*texts: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(texts)).decode().rstrip("=")


def decode_keys(cursor: str, count: int) -> list[str]:
    """Raises Invalid for what is no cursor of so many texts."""
    try:
        match orjson.loads(base64.urlsafe_b64decode(cursor + "==")):
            case [*texts] if len(texts) == count and all(isinstance(text, str) and "\0" not in text for text in texts):
                return texts
            case _:
                raise _not_ours()
    except (ValueError, binascii.Error):
        raise _not_ours() from None


def moment(text: str) -> datetime:
    """A time in a cursor. Raises Invalid where it is none, or of no time zone."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _not_ours()


def _not_ours() -> Invalid:
    return Invalid("?cursor", "This cursor is not one of ours.")
