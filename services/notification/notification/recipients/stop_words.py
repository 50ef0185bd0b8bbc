"""STOP and START: the word of a phone number, whoever has it."""

import re
import unicodedata
from collections.abc import Callable, Collection

import sqlalchemy as sa

from chassis.db import upsert
from chassis.events import first_time
from chassis.ids import now
from notification.tables import event_processing, stops


# --- of the system scope: every tenant sends from the same number ---
def stop(conn: sa.Connection, phone: str) -> None:
    """`phone` is E.164, here and below."""
    row = {"phone": phone, "stopped_at": now()}
    conn.execute(upsert(conn, stops).values(row).on_conflict_do_nothing())


def start(conn: sa.Connection, phone: str) -> None:
    """Undoes `stop` and nothing else: a channel or category that a recipient switched off stays off."""
    conn.execute(sa.delete(stops).where(stops.c.phone == phone))


def stopped(conn: sa.Connection, phones: Collection[str]) -> set[str]:
    """Those of `phones` that have said STOP."""
    return set(conn.execute(_STOPPED, {"phones": list(phones)}).scalars()) if phones else set()


_STOPPED = sa.select(stops.c.phone).where(stops.c.phone.in_(sa.bindparam("phones", expanding=True)))
_EVERY_TENANT = "*"  # can't be a tenant's name

# --- what phones answer ---
# 47 CFR 64.1200(a)(10) and CTIA's Messaging Principles. HELP is the provider's to answer.
_STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL", "REVOKE", "OPTOUT"})
_START = frozenset({"START", "UNSTOP", "YES"})
_LONGEST_WORD = 32  # with all that stands around it


def wish_of(text: str) -> Callable[[sa.Connection, str], None] | None:
    """What a text message asks for, to be done with its sender's number (in any case and width, with any punctuation);
    None where it is neither STOP nor START."""
    if len(text.strip()) > _LONGEST_WORD:
        return None
    word = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text)).upper()
    if word in _STOP:
        return stop
    if word in _START:
        return start
    return None


def hear(conn: sa.Connection, *, provider: str, message_id: str, phone: str, text: str) -> None:
    """The word of whoever writes from `phone` (E.164). A repetition is nobody's: it may come after the opposite."""
    wish = wish_of(text)
    if wish is not None and first_time(
        conn,
        event_processing,
        tenant=_EVERY_TENANT,
        consumer=f"notification.{provider}",
        source=provider,
        event_id=message_id,
    ):
        wish(conn, phone)
