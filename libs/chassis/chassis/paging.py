"""Keyset cursors: the id (UUIDv7) of a page's last row, opaque to callers."""

import base64
import binascii
import uuid

from chassis.problems import Invalid


def encode_cursor(row_id: str) -> str:
    return base64.urlsafe_b64encode(uuid.UUID(row_id).bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """Raises Invalid for what `encode_cursor` has not made."""
    try:
        row_id = uuid.UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except (ValueError, binascii.Error):
        row_id = None
    if row_id is None or row_id.version != 7 or encode_cursor(str(row_id)) != cursor:
        raise Invalid("?cursor", "This cursor is not one of ours.")
    return str(row_id)
