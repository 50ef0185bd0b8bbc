"""What may go out now, and by which channel: the wishes of recipients, asked for messages that are about to be written
or sent, in the same transaction. The rules themselves are `sending_rules.decide`."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from chassis.db import take_turns
from chassis.ids import first_id
from notification.domain import ChannelName, Notification, Status
from notification.recipients.contacts import Recipient, first_reachable
from notification.recipients.preferences import Preference, Preferences
from notification.recipients.sending_rules import (
    LONGEST_HOLD,
    Decision,
    History,
    Message,
    Send,
    Sent,
    Suppress,
    decide,
    gathers,
    history_since,
)
from notification.recipients.stop_words import stopped
from notification.tables import contacts, notifications

_COUNTED = (Status.SENDING, Status.SENT, Status.DELIVERED)
_OLDEST = 3 * LONGEST_HOLD  # by then what is made is sent, or never will be
_DEFAULT = Preference()
DigestKey = tuple[str, str, str, str, str]  # tenant, recipient, channel, category and address: what a digest is of


@dataclass(frozen=True, slots=True)
class Admitted:
    """`message` by the channel it may go by, the decision on it, and whether it goes out in a digest."""

    message: Notification
    decision: Decision
    digest: bool = False


def admit(conn: sa.Connection, messages: Sequence[Notification], at: datetime) -> list[Admitted]:
    """In the order of `messages`. Several to one recipient count towards its caps one after the other, those that go
    out in one digest together."""
    admitted: dict[str, Admitted] = {}
    by_tenant: dict[str, list[Notification]] = defaultdict(list)
    for message in messages:
        by_tenant[message.tenant].append(message)
    for tenant, asked in sorted(by_tenant.items()):
        wishes = Preferences(conn, tenant).of_many({message.recipient_id for message in asked})
        # Of two that are admitted at once the second has to see what the first let through.
        take_turns(conn, [f"caps {tenant} {key}" for key, wish in wishes.items() if history_since(at, wish)])
        past = _Past(conn, tenant, at, asked=asked)
        for message in asked:
            admitted[message.id] = _ask(conn, message, wishes.get(message.recipient_id, _DEFAULT), past)
    return [admitted[message.id] for message in messages]


class _Past:
    """What was sent to each recipient, what has just been let through, and which numbers have said STOP."""

    def __init__(self, conn: sa.Connection, tenant: str, at: datetime, *, asked: Sequence[Notification]) -> None:
        self._conn = conn
        self._tenant = tenant
        self._asked = {message.id for message in asked}
        self._sent: dict[str, list[Sent]] = {}
        self.gathered: dict[DigestKey, Sequence[Sent]] = {}  # what was sent before a digest that was just let through
        phones = {message.address for message in asked if message.channel is ChannelName.SMS}
        self._stopped = dict.fromkeys(phones, False) | dict.fromkeys(stopped(conn, phones), True)
        self.at = at

    def stopped(self, phone: str) -> bool:
        if phone not in self._stopped:  # of a message that was just handed on
            self._stopped[phone] = bool(stopped(self._conn, [phone]))
        return self._stopped[phone]

    def of(self, recipient_id: str, preference: Preference) -> list[Sent]:
        """The list to which whatever is let through is added."""
        if recipient_id not in self._sent:
            since = history_since(self.at, preference)
            self._sent[recipient_id] = [] if since is None else self._read(recipient_id, since)
        return self._sent[recipient_id]

    def _read(self, recipient_id: str, since: datetime) -> list[Sent]:
        """What is just being sent counts as well, or two at once would both pass; but not those that are asked for:
        each of them would hold the others, again and again."""
        table = notifications
        query = sa.select(table.c.id, table.c.category, table.c.channel, table.c.sent_at).where(
            table.c.tenant == self._tenant,
            table.c.recipient_id == recipient_id,
            table.c.id >= first_id((since - _OLDEST).timestamp()),
            table.c.status.in_(_COUNTED),
            sa.func.coalesce(table.c.digest_of, "") == "",  # its digest counts, once
            sa.or_(table.c.sent_at >= since, table.c.sent_at.is_(None)),
        )
        rows = (row for row in self._conn.execute(query) if row.id not in self._asked)
        return [Sent(row.category, row.channel, row.sent_at or self.at) for row in rows]


def _ask(conn: sa.Connection, message: Notification, preference: Preference, past: _Past) -> Admitted:
    """By the first channel of its chain that the recipient has not forbidden."""
    category, channel = message.category, message.channel
    if channel is ChannelName.PUSH and message.digest_of == "":
        message = replace(message, digest_of=None)  # handed on to where digests have no room
    asked = Message(channel=channel, category=category, created_at=message.created_at, critical=message.critical)
    has_stopped = channel is ChannelName.SMS and past.stopped(message.address)
    gathering = digest_key(message) if message.digest_of == "" else None
    sent = past.of(message.recipient_id, preference)
    history = History(past.gathered.get(gathering, sent) if gathering else sent)
    decision = decide(past.at, preference.with_stop(channel) if has_stopped else preference, history, asked)
    elsewhere = isinstance(decision, Suppress) and decision.reason != "too-late"
    if elsewhere and (next_message := handed_on(conn, message)) is not None:
        return _ask(conn, next_message, preference, past)
    if isinstance(decision, Send) and gathering not in past.gathered:
        if gathering:
            past.gathered[gathering] = tuple(sent)
        sent.append(Sent(category, channel, past.at))
    return Admitted(message, decision, digest=gathers(preference, asked))


def digest_key(message: Notification | sa.Row[Any]) -> DigestKey:
    """Of a message, or its row, that goes out in a digest: which one."""
    return message.tenant, message.recipient_id, message.channel, message.category, message.address


def handed_on(conn: sa.Connection, message: Notification) -> Notification | None:
    """The same message by the next channel of its chain that reaches its recipient; None where there is none."""
    if not message.chain:
        return None
    contact = sa.and_(contacts.c.tenant == message.tenant, contacts.c.id == message.recipient_id)
    known = conn.execute(sa.select(contacts.c.email, contacts.c.phone).where(contact)).one_or_none()
    addresses = {} if known is None else {"email": known.email or "", "phone": known.phone or ""}
    channel, address, chain = first_reachable(Recipient(id=message.recipient_id, **addresses), message.chain)
    return replace(message, channel=channel, address=address, chain=chain) if address else None
