"""A message and its row: how a new one is put together, its business key, and the row written and read back."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypedDict, Unpack

import orjson
import sqlalchemy as sa

from chassis.ids import new_id, now
from notification.domain import ChannelName, Notification
from notification.recipients.contacts import Recipient, first_reachable
from notification.templates.locales import DEFAULT


class Particulars(TypedDict, total=False):
    """See `Notification`."""

    topic: str
    subject_id: str
    version: int
    latest_only: bool
    critical: bool
    link: str
    group_id: str


def new_notification(
    recipient: Recipient,
    channels: Sequence[ChannelName],
    *,
    tenant: str,
    effect: str,
    owner: str,
    event_id: str,
    category: str,
    template: str,
    context: Mapping[str, Any],
    traceparent: str,
    **particulars: Unpack[Particulars],
) -> Notification:
    """By the first of `channels` that reaches `recipient`, the others behind it as its chain; where none does, its
    address is empty. `owner` is the recipient itself where nobody else is. Its template knows whom it speaks to as
    `user`, unless `context` has one of its own."""
    channel, address, chain = first_reachable(recipient, channels)
    return Notification(
        id=new_id(),
        created_at=now(),
        tenant=tenant,
        effect=effect,
        owner=owner or recipient.id,
        event_id=event_id,
        recipient_id=recipient.id,
        channel=channel,
        chain=chain,
        address=address,
        category=category,
        template=template,
        locale=recipient.locale or DEFAULT,
        context={"user": user_of(recipient), **context},
        traceparent=traceparent,
        **particulars,
    )


_USER = tuple(field.name for field in fields(Recipient))


def user_of(recipient: Recipient) -> dict[str, str]:
    """What a template may say of its recipient."""
    return {name: getattr(recipient, name) for name in _USER}


def effect_of(*parts: str) -> str:
    """The business key of a message, as long as its column whatever went into it."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


_FIELDS = [field.name for field in fields(Notification)]


def row_of(notification: Notification) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(notification, name) for name in _FIELDS}
    chain, context = ",".join(notification.chain), orjson.dumps(notification.context).decode()
    return row | {"chain": chain, "context": context, "provider": notification.provider or None}


def notification_of(row: sa.Row[Any]) -> Notification:
    values: dict[str, Any] = {name: getattr(row, name) for name in _FIELDS}
    chain = tuple(ChannelName(name) for name in row.chain.split(",") if name)
    values |= {"channel": ChannelName(row.channel), "chain": chain, "context": orjson.loads(row.context)}
    values["provider"] = row.provider or ""
    return Notification(**values)
