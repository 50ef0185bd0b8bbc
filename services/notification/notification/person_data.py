"""One person's data: all that is held of them here, and its erasure. What was sent stays as a record of what it cost
and whether it arrived, without its words and whom it was for; what is queued is not sent. Whoever else has heard of
the person is told to do the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from pydantic.alias_generators import to_camel

from chassis.erasure import ERASED, PERSONAL, Traces, erase, mentions, trace, without
from chassis.outbox import Outbox
from notification.announcements import FEED
from notification.events import CustomerErased
from notification.queue.erasure import erase_messages
from notification.recipients.contacts import Contact, Contacts
from notification.recipients.erasures import note_erasure
from notification.tables import (
    bulk_recipients,
    bulks,
    changes,
    contact_groups,
    contacts,
    dead_letter_moves,
    dead_letters,
    notifications,
    outbox,
    password_resets,
    preferences,
    sagas,
)

Rows = list[dict[str, Any]]

_PERSONAL = PERSONAL | {"customerName", "customerEmail", "customerPhone"}  # as other teams' events say it

_OF_A_MESSAGE = (
    *("id", "channel", "address", "category", "template", "locale", "status", "subject", "content"),
    *("created_at", "sent_at", "delivered_at"),
)


def held(conn: sa.Connection, tenant: str, person_id: str) -> dict[str, Rows]:
    """What the rows of the person say, by what it is."""
    theirs = {table: _of(table, tenant, person_id) for table in (notifications, preferences, password_resets, sagas)}
    contact = (contacts.c.tenant == tenant, contacts.c.id == person_id)
    groups = (contact_groups.c.tenant == tenant, contact_groups.c.recipient_id == person_id)
    return {
        "contact": _rows(conn, contacts, contact, ("owner", "name", "email", "phone", "locale", "as_of")),
        "groups": _rows(conn, contact_groups, groups, ("group_name",)),
        "preferences": _rows(conn, preferences, theirs[preferences], ("document", "updated_at")),
        "notifications": _rows(conn, notifications, theirs[notifications], _OF_A_MESSAGE),
        "passwordResets": _rows(conn, password_resets, theirs[password_resets], ("created_at", "ended_at")),
        "sagas": _rows(conn, sagas, theirs[sagas], ("type", "data", "started_at")),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Mentioned:
    """Where else than under their own id a person is told of; `messages` are ids."""

    messages: Sequence[str]
    sagas: Traces
    events: Traces


def mentioned(conn: sa.Connection, tenant: str, person_id: str) -> Mentioned:
    """Walks through all that the tenant has, which are not made in the transaction that erases."""
    # An event that tells of an erasure has to name whom.
    events = sa.and_(outbox.c.tenant == tenant, outbox.c.type != CustomerErased.type)
    return Mentioned(
        messages=_messages(conn, tenant, person_id),
        sagas=trace(conn, sagas.c.data, sagas.c.tenant == tenant, person_id, grows=sagas.c.started_at),
        events=trace(conn, outbox.c.data, events, person_id, grows=outbox.c.seq),
    )


def _messages(conn: sa.Connection, tenant: str, person_id: str) -> list[str]:
    """The ids of messages to others that tell of the person, and of those that know them by their address alone.
    What is written down to others meanwhile is not among them."""
    contact = Contacts(conn, tenant).find(person_id)
    told = mentions(notifications.c.context, person_id)
    if contact is not None and contact.email:
        told |= (notifications.c.recipient_id == "") & (notifications.c.address == contact.email)
    query = sa.select(notifications.c.id, notifications.c.recipient_id, notifications.c.context)
    word = orjson.dumps(person_id).decode()  # SQLite finds it in other letters too
    found = conn.execute(query.where(notifications.c.tenant == tenant, told))
    return [row.id for row in found if word in row.context or row.recipient_id == ""]


def erase_person(
    conn: sa.Connection,
    tenant: str,
    person_id: str,
    *,
    at: datetime,
    told: Mentioned,
    announce: Outbox,
    parent: str,
) -> None:
    """All of it in the caller's transaction; `told` are `mentioned`. Once more, it finds nothing, and says it again."""
    contact = Contacts(conn, tenant).find(person_id)
    version = note_erasure(conn, tenant, person_id, at)
    erase_messages(conn, tenant, person_id, told.messages)
    for table in (contact_groups, preferences, password_resets):
        conn.execute(sa.delete(table).where(*_of(table, tenant, person_id)))
    conn.execute(sa.delete(contacts).where(contacts.c.tenant == tenant, contacts.c.id == person_id))
    erase(conn, told.sagas, person_id, personal=_PERSONAL)
    conn.execute(sa.update(sagas).where(*_of(sagas, tenant, person_id)).values(recipient_id=ERASED))
    for table, nobody in ((contacts, ""), (notifications, ERASED), (sagas, ERASED)):
        owned = (table.c.tenant == tenant, table.c.owner == person_id)
        conn.execute(sa.update(table).where(*owned).values(owner=nobody))
    _erase_from_bulks(conn, tenant, person_id)
    _erase_from_feed(conn, tenant, person_id)
    _erase_dead_letters(conn, tenant, person_id, contact)
    erase(conn, told.events, person_id, personal=_PERSONAL)
    event = CustomerErased(version=version, customer_id=person_id, erased_at=at)
    announce.add(conn, event, tenant=tenant, aggregate_id=person_id, parent=parent)


def _erase_from_bulks(conn: sa.Connection, tenant: str, person_id: str) -> None:
    of_tenant = bulk_recipients.c.bulk_id.in_(sa.select(bulks.c.id).where(bulks.c.tenant == tenant))
    theirs = sa.and_(of_tenant, bulk_recipients.c.recipient_id == person_id)
    untaken = sa.case((bulk_recipients.c.notification_id.is_(None), ERASED), else_=bulk_recipients.c.error)
    conn.execute(sa.update(bulk_recipients).where(theirs).values(recipient_id=ERASED, context="{}", error=untaken))


def _erase_from_feed(conn: sa.Connection, tenant: str, person_id: str) -> None:
    """Not deleted: from the newest the next position is counted."""
    theirs = sa.and_(changes.c.tenant == tenant, changes.c.topic == FEED, changes.c.key == person_id)
    for row in conn.execute(sa.select(changes.c.seq, changes.c.data).where(theirs)).all():
        data = orjson.dumps(without(orjson.loads(row.data), person_id, _PERSONAL) | {"text": ""}).decode()
        conn.execute(sa.update(changes).where(changes.c.seq == row.seq).values(key=ERASED, data=data))


def _erase_dead_letters(conn: sa.Connection, tenant: str, person_id: str, contact: Contact | None) -> None:
    """Whoever's they are: delivered again, they would bring the person back. Some can't be read: a mention will do,
    and so will one that somebody has edited away."""
    words = [orjson.dumps(person_id).decode(), *filter(None, (contact.email, contact.phone) if contact else ())]
    letters, moves = dead_letters.c, dead_letter_moves.c
    columns = (letters.body, moves.before, moves.after)
    mention = sa.or_(*(column.contains(word, autoescape=True) for word in words for column in columns))
    edited = sa.outerjoin(dead_letters, dead_letter_moves, moves.letter_id == letters.id)
    found = conn.execute(
        sa.select(letters.id, *columns).select_from(edited).where(letters.tenant == tenant, mention)
    )  # SQLite finds other letters too
    ids = {letter_id for letter_id, *texts in found if any(word in text for word in words for text in texts if text)}
    conn.execute(sa.delete(dead_letter_moves).where(moves.letter_id.in_(ids)))
    conn.execute(sa.delete(dead_letters).where(letters.id.in_(ids)))


def _of(table: sa.Table, tenant: str, person_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.tenant == tenant, table.c.recipient_id == person_id


def _rows(
    conn: sa.Connection, table: sa.Table, which: tuple[sa.ColumnElement[bool], ...], columns: Sequence[str]
) -> Rows:
    query = sa.select(*(table.c[name] for name in columns)).where(*which).order_by(*table.primary_key)
    return [{to_camel(name): value for name, value in row.items()} for row in conn.execute(query).mappings()]
