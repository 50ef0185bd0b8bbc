"""What providers tell of a message after they took it, and what phones answer.

Every statement here is of the system scope, all tenants': a provider knows a message only by the provider's own name
for it, and the short code that people answer to is everybody's.
"""

import hmac
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
import structlog

from chassis.db import Database, take_turns, upsert
from chassis.events import first_time
from chassis.ids import now
from chassis.webhooks import NotSigned, Signatures
from notification.contacts import start, stop
from notification.domain import Status, before
from notification.tables import early_receipts, event_processing, notifications

log = structlog.get_logger()

_LONGEST_ERROR = 255
_EVERY_TENANT = "*"  # can't be a tenant's name

Row = sa.Row[Any]
# What else a move means (the change feed, the event), in the transaction that moved the rows.
Told = Callable[[sa.Connection, Sequence[Row]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The last word on a message: `delivered`, `bounced` or `failed`. `message_id` is the provider's name for it, by
    SMTP the notification's id. `error` is short and free of personal data."""

    provider: str
    message_id: str
    status: Status
    error: str = ""


def apply(conn: sa.Connection, receipt: Receipt) -> list[Row]:
    """The rows that it moved: the message's, and those that went out in it as a digest. A final one stays as it is.

    A receipt may overtake the commit of the answer that it belongs to. It is kept then, for `take_early`.
    """
    one_at_a_time(conn, receipt.provider, [receipt.message_id])
    rows = _move(conn, receipt)
    if not rows and conn.execute(_KNOWN, _message(receipt)).first() is None:
        row = _row(receipt) | {"received_at": now()}
        conn.execute(upsert(conn, early_receipts).values(row).on_conflict_do_nothing())
    return rows


def one_at_a_time(conn: sa.Connection, provider: str, message_ids: Collection[str]) -> None:
    """Before a receipt, or the answer that names its message, is written down: committed at the same moment, neither
    would see the other."""
    take_turns(conn, [f"receipt {provider} {message_id}" for message_id in message_ids])


def take_early(conn: sa.Connection, provider: str, message_ids: Collection[str]) -> list[Row]:
    """The rows moved by what came early for messages whose ids have just been written, in the same transaction. One
    statement where nothing did."""
    early = sorted(
        conn.execute(_TAKE, {"provider_is": provider, "ids": list(message_ids)}), key=lambda row: row.received_at
    )
    receipts = (
        Receipt(provider=provider, message_id=row.message_id, status=Status(row.status), error=row.error or "")
        for row in early
    )
    return [row for receipt in receipts for row in _move(conn, receipt)]


_IS_MESSAGE = sa.and_(
    notifications.c.provider == sa.bindparam("provider_is"),
    notifications.c.provider_message_id == sa.bindparam("message_id_is"),
)
_KNOWN = sa.select(notifications.c.id).where(_IS_MESSAGE).limit(1)
_TAKE = (
    sa.delete(early_receipts)
    .where(
        early_receipts.c.provider == sa.bindparam("provider_is"),
        early_receipts.c.message_id.in_(sa.bindparam("ids", expanding=True)),
    )
    .returning(early_receipts)
)


def _moving(status: Status, which: sa.ColumnElement[bool]) -> sa.Update:
    values: dict[str, Any] = {"status": status, "lease_until": None, "next_attempt_at": None, "ask_at": None}
    delivered = status is Status.DELIVERED
    values["delivered_at" if delivered else "error"] = sa.bindparam("at" if delivered else "reason")
    return (
        sa.update(notifications)
        .where(which, notifications.c.status.in_(before(status)))
        .values(values)
        .returning(notifications)
    )


_LAST_WORDS = (Status.DELIVERED, Status.BOUNCED, Status.FAILED)
_MOVE = {status: _moving(status, _IS_MESSAGE) for status in _LAST_WORDS}
_MOVE_DIGEST = {
    status: _moving(status, notifications.c.digest_of.in_(sa.bindparam("carriers", expanding=True)))
    for status in _LAST_WORDS
}


def _move(conn: sa.Connection, receipt: Receipt) -> list[Row]:
    delivered = receipt.status is Status.DELIVERED
    told = {"at": now()} if delivered else {"reason": receipt.error[:_LONGEST_ERROR] or receipt.status.value}
    rows = list(conn.execute(_MOVE[receipt.status], _message(receipt) | told))
    if not rows:
        return []
    carriers = {"carriers": [row.id for row in rows]}
    return rows + list(conn.execute(_MOVE_DIGEST[receipt.status], carriers | told))


def _message(receipt: Receipt) -> dict[str, Any]:
    return {"provider_is": receipt.provider, "message_id_is": receipt.message_id}


def _row(receipt: Receipt) -> dict[str, Any]:
    return {
        "provider": receipt.provider,
        "message_id": receipt.message_id,
        "status": receipt.status,
        "error": receipt.error[:_LONGEST_ERROR] or None,
    }


# --- what phones answer ---

# 47 CFR 64.1200(a)(10) and CTIA's Messaging Principles. HELP is the provider's to answer.
_STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL", "REVOKE", "OPTOUT"})
_START = frozenset({"START", "UNSTOP", "YES"})
_LONGEST_WORD = 32  # with all that stands around it


def wish_of(text: str) -> Callable[[sa.Connection, str], None] | None:
    """What a text message asks for, to be done with its sender's number (in any case, with any punctuation); None where
    it is neither STOP nor START."""
    word = re.sub(r"[\W_]+", "", text).upper() if len(text.strip()) <= _LONGEST_WORD else ""
    if word in _STOP:
        return stop
    if word in _START:
        return start
    return None


def hear(conn: sa.Connection, *, provider: str, message_id: str, phone: str, text: str) -> None:
    """The word of whoever writes from `phone` (E.164). A repetition is nobody's: it may come after the opposite."""
    wish = wish_of(text)
    if wish is not None and first_time(
        conn, event_processing, tenant=_EVERY_TENANT, consumer=f"notification.{provider}", event_id=message_id
    ):
        wish(conn, phone)


class Receipts:
    """The two over the database. `told` hears of the rows that moved, within the transaction; `wake` is called after
    the commit."""

    def __init__(self, *, db: Database, told: Told, wake: Callable[[], None]) -> None:
        self._db = db
        self._told = told
        self._wake = wake

    async def take(self, receipt: Receipt) -> None:
        def work(conn: sa.Connection) -> int:
            if rows := apply(conn, receipt):
                self._told(conn, rows)
            return len(rows)

        if moved := await self._db.write(work):
            self._wake()
        log.info("receipt.taken", provider=receipt.provider, status=receipt.status, moved=moved)

    async def hear(self, *, provider: str, message_id: str, phone: str, text: str) -> None:
        if (wish := wish_of(text)) is None:  # most of what people write; no need of the writer to learn that
            return
        await self._db.write(lambda conn: hear(conn, provider=provider, message_id=message_id, phone=phone, text=text))
        log.info("sms.wish", provider=provider, wish=wish.__name__)


# --- who may tell ---


class Trust:
    """By provider, each with secrets of its own: one that leaks speaks for nobody else."""

    def __init__(self) -> None:
        self._secrets: Mapping[str, Sequence[str]] = {}
        self._signatures: Mapping[str, Signatures] = {}

    def unlock(self, receipt_secrets: str) -> None:
        """JSON by provider, each comma-separated, newest first: while they rotate, either is good. A `whsec_…` is of
        one that signs (Standard Webhooks). Raises ValueError for one that is no key."""
        told: dict[str, str] = orjson.loads(receipt_secrets)
        self._secrets = {
            provider: [one.strip() for one in secrets.split(",") if one.strip()] for provider, secrets in told.items()
        }
        self._signatures = {
            provider: _signatures(provider, secrets) for provider, secrets in told.items() if "whsec_" in secrets
        }

    def require_secret(self, provider: str, given: str) -> None:
        """Raises NotSigned."""
        known = self._secrets.get(provider, [])
        if not any(hmac.compare_digest(one.encode(), given.encode()) for one in known):
            raise NotSigned

    def require_signature(self, provider: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Raises NotSigned."""
        self._signatures.get(provider, Signatures()).verify(body, headers)


def _signatures(provider: str, secrets: str) -> Signatures:
    try:
        return Signatures(secrets)
    except ValueError:
        raise ValueError(f"receipt-secrets: one of {provider}'s is no key") from None
