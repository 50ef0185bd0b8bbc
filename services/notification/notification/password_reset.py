"""Password resets. Asking answers everybody alike: what is written down is a message to an address, and whether anybody
has that address is only looked up when it is sent. Then too its link is made: 32 random bytes, of which only the hash
is kept, for an hour and one use. Making another one, in a retry as well, revokes those before.

The message is critical and asked for by its recipient: an unsubscription, quiet hours, caps and digests are not meant
for it. Who has switched e-mail off altogether gets none; whoever asked gets the same answer, and only staff sees why.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import new_id, now
from notification.domain import ChannelName, Notification, ResetGone, SignedLink
from notification.outcomes import Suppressed
from notification.queue.new_notification import effect_of, new_notification, user_of
from notification.recipients.contacts import Contact, Contacts, Recipient
from notification.recipients.preferences import Preferences
from notification.recipients.sending_rules import Decision, History, Message, Suppress, decide
from notification.tables import contacts, password_resets

LINK = "password-reset"

_BYTES = 32
_VALID = timedelta(hours=1)
_MOST_IN_AN_HOUR = 5


def draft(*, tenant: str, email: str, traceparent: str) -> Notification:
    """Nobody's in the history but staff's: who asked is not known, and whose address it is not told."""
    request_id = new_id()
    return new_notification(
        Recipient(id="", email=email),
        (ChannelName.EMAIL,),
        tenant=tenant,
        effect=effect_of(LINK, request_id),
        owner="",
        event_id=request_id,
        category="Account",
        template="password-reset",
        context={},
        traceparent=traceparent,
        critical=True,
        link=LINK,
    )


class Resets:
    def __init__(self, *, db: Database, reset_url: str) -> None:
        self._db = db
        self._reset_url = reset_url

    async def link(self, notification: Notification) -> Mapping[str, Any] | Suppressed:
        """What the message's template needs: a link that holds now, its token in the fragment, which no server sees or
        logs; and to whom it speaks, in which language: like the account, that is in no row of the message."""
        token = secrets.token_urlsafe(_BYTES)
        contact = await self._db.write(lambda conn: _issue(conn, notification, _hash(token)))
        if isinstance(contact, Suppressed):
            return contact
        return {
            "locale": contact.locale,
            "user": user_of(contact),
            "resetUrl": SignedLink(f"{self._reset_url}#token=", token),
            "expiresInMinutes": int(_VALID.total_seconds() // 60),
        }

    async def redeem(self, token: str) -> None:
        """Use it up. Raises ResetGone when it never was, is used, revoked or too old: nobody learns which."""
        if not await self._db.write(lambda conn: _redeem(conn, _hash(token))):
            raise ResetGone


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _issue(conn: sa.Connection, notification: Notification, token_hash: str) -> Contact | Suppressed:
    """Whose link it is."""
    known = Contacts(conn, notification.tenant).by_email(notification.address)
    if not known:
        return Suppressed("no account")
    # Anybody may claim an address in an order: only what all who have it equally refuse is refused.
    asked = [
        (contact, _decision(conn, notification, contact.id)) for contact in known if contact.trusted == known[0].trusted
    ]
    allowed = (pair for pair in asked if not isinstance(pair[1], Suppress))
    contact, decision = next(allowed, asked[0])
    if isinstance(decision, Suppress):
        return Suppressed(decision.reason)
    # Two at once would not see each other's, and leave both.
    account = sa.and_(contacts.c.tenant == notification.tenant, contacts.c.id == contact.id)
    conn.execute(sa.select(contacts.c.id).where(account).with_for_update())
    table, at = password_resets, now()
    of_account = sa.and_(table.c.tenant == notification.tenant, table.c.recipient_id == contact.id)
    if notification.attempts == 0:
        recent = (
            sa.select(sa.func.count())
            .select_from(table)
            .where(of_account, table.c.created_at > at - timedelta(hours=1))
        )
        if conn.execute(recent).scalar_one() >= _MOST_IN_AN_HOUR:
            return Suppressed("too many resets")
    conn.execute(sa.update(table).where(of_account, table.c.ended_at.is_(None)).values(ended_at=at))
    issued = {"token_hash": token_hash, "tenant": notification.tenant, "recipient_id": contact.id}
    conn.execute(sa.insert(table).values(**issued, created_at=at, expires_at=at + _VALID))
    return contact


def _decision(conn: sa.Connection, notification: Notification, recipient_id: str) -> Decision:
    """Here and not when it was written down, for whose address it is was not known then."""
    wishes, _version = Preferences(conn, notification.tenant).of(recipient_id)
    message = Message(
        channel=notification.channel,
        category=notification.category,
        created_at=notification.created_at,
        critical=notification.critical,
    )
    return decide(now(), wishes, History(), message)


def _redeem(conn: sa.Connection, token_hash: str) -> bool:
    """The system scope: the token alone says whose it is."""
    table = password_resets
    open_ = sa.and_(table.c.token_hash == token_hash, table.c.ended_at.is_(None), table.c.expires_at > now())
    return conn.execute(sa.update(table).where(open_).values(ended_at=now())).rowcount == 1
