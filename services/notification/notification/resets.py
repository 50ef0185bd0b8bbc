"""Password resets. Asking answers everybody alike: what is written down is a message to an address, and whether anybody
has that address is only looked up when it is sent. Then too its link is made: 32 random bytes, of which only the hash
is kept, for an hour and one use. Making another one, in a retry as well, revokes those before."""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from chassis.db import Database
from chassis.ids import new_id, now
from notification.contacts import Contacts
from notification.domain import ChannelName, Notification, ResetGone, Suppressed
from notification.store import effect_of
from notification.tables import password_resets

LINK = "password-reset"

_BYTES = 32
_VALID = timedelta(hours=1)
_MOST_IN_AN_HOUR = 5


def draft(*, tenant: str, email: str, traceparent: str) -> Notification:
    """Nobody's in the history but staff's: who asked is not known, and whose address it is not told."""
    notification_id = new_id()
    return Notification(
        id=notification_id,
        tenant=tenant,
        effect=effect_of(LINK, notification_id),
        owner="",
        event_id=notification_id,
        recipient_id="",
        channel=ChannelName.EMAIL,
        address=email,
        category="Account",
        template="password-reset",
        locale="en",
        context={},
        traceparent=traceparent,
        created_at=now(),
        critical=True,
        link=LINK,
    )


class Resets:
    def __init__(self, *, db: Database, reset_url: str) -> None:
        self._db = db
        self._reset_url = reset_url

    async def link(self, notification: Notification) -> Mapping[str, Any] | Suppressed:
        """What the message's template needs: a link that holds now. In its fragment, which no server sees or logs."""
        token = secrets.token_urlsafe(_BYTES)
        refused = await self._db.write(lambda conn: _issue(conn, notification, _hash(token)))
        if refused is not None:
            return refused
        return {
            "resetLink": f"{self._reset_url}#token={token}",
            "expiresInMinutes": int(_VALID.total_seconds() // 60),
        }

    async def redeem(self, token: str) -> None:
        """Use it up. Raises ResetGone when it never was, is used, revoked or too old: nobody learns which."""
        if not await self._db.write(lambda conn: _redeem(conn, _hash(token))):
            raise ResetGone


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _issue(conn: sa.Connection, notification: Notification, token_hash: str) -> Suppressed | None:
    known = Contacts(conn, notification.tenant).by_email(notification.address)
    if not known:
        return Suppressed("no account")
    contact = known[0]
    table, at = password_resets, now()
    theirs = sa.and_(table.c.tenant == notification.tenant, table.c.recipient_id == contact.id)
    if notification.attempts == 0:
        recent = (
            sa.select(sa.func.count()).select_from(table).where(theirs, table.c.created_at > at - timedelta(hours=1))
        )
        if conn.execute(recent).scalar_one() >= _MOST_IN_AN_HOUR:
            return Suppressed("too many resets")
    conn.execute(sa.update(table).where(theirs, table.c.ended_at.is_(None)).values(ended_at=at))
    issued = {"token_hash": token_hash, "tenant": notification.tenant, "recipient_id": contact.id}
    conn.execute(sa.insert(table).values(**issued, created_at=at, expires_at=at + _VALID))
    return None


def _redeem(conn: sa.Connection, token_hash: str) -> bool:
    """The system scope: the token alone says whose it is."""
    table = password_resets
    open_ = sa.and_(table.c.token_hash == token_hash, table.c.ended_at.is_(None), table.c.expires_at > now())
    return conn.execute(sa.update(table).where(open_).values(ended_at=now())).rowcount == 1
