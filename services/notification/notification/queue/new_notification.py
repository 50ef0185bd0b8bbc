"""A message and its row: its business key, and the row read back."""

import hashlib
from dataclasses import fields
from typing import Any

import orjson
import sqlalchemy as sa

from notification.domain import (
    ChannelName,
    Notification,
)


def effect_of(*parts: str) -> str:
    """The business key of a message, as long as its column whatever went into it."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


_FIELDS = [one.name for one in fields(Notification)]


def notification_of(row: sa.Row[Any]) -> Notification:
    values: dict[str, Any] = {name: getattr(row, name) for name in _FIELDS}
    chain = tuple(ChannelName(name) for name in row.chain.split(",") if name)
    values |= {"channel": ChannelName(row.channel), "chain": chain, "context": orjson.loads(row.context)}
    values["provider"] = row.provider or ""
    return Notification(**values)
