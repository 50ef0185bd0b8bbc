"""Who a recipient is: contacts, and the groups that they are in.

An order names its customer as its caller typed it. That is not trusted: it makes a contact where there is none,
and changes one only for whoever made it, or an order with somebody else's customer id would redirect that person's
messages. What a trusted source or staff says takes such a contact over as a whole, owner and all, however old it is;
from then on only they change it.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import sqlalchemy as sa

from chassis.db import upsert, upsert_in
from chassis.ids import now
from notification.domain import ChannelName, ConcurrencyConflict, UnknownRecipient
from notification.recipients.addresses import usable_email, usable_phone
from notification.tables import contact_groups, contacts, preferences
from notification.templates.locales import canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """As an event or the contacts know them; empty where nothing is known."""

    id: str
    name: str = ""
    email: str = ""
    phone: str = ""
    locale: str = ""

    def address(self, channel: ChannelName) -> str:
        """By what the channel reaches them; empty where it can't."""
        match channel:
            case ChannelName.EMAIL | ChannelName.PUSH:  # the push provider knows customers by their e-mail
                return self.email
            case ChannelName.SMS:
                return self.phone
            case ChannelName.LIVE:
                return self.id


def first_reachable(
    recipient: Recipient, channels: Sequence[ChannelName]
) -> tuple[ChannelName, str, tuple[ChannelName, ...]]:
    """The first channel that reaches them, the address, and what is left of the chain. The address is empty where
    none does."""
    for number, channel in enumerate(channels):
        if address := recipient.address(channel):
            return channel, address, tuple(channels[number + 1 :])
    return channels[0], "", ()


_LONGEST_NAME = 1000
_KNOWN = ("name", "email", "email_key", "phone", "locale")  # what an event may tell of a contact


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact(Recipient):
    """`owner` is the subject who may see it and whose orders may change it, besides staff; "" is nobody.

    `phone` is E.164 once it is stored. `as_of` is when what is said was true. `trusted`: see the module. `version` is
    said of what is stored.
    """

    as_of: datetime
    owner: str = ""
    trusted: bool = False
    version: int = 0


class Contacts:
    """A tenant's contacts."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def feed(self, contact: Contact) -> None:
        """What an event tells, by whom it may be told (see the module). Among equals, what is older changes nothing,
        and what is empty, or can't be an address, overwrites nothing."""
        email = usable_email(contact.email)
        row = {
            "tenant": self._tenant,
            "id": contact.id,
            "owner": contact.owner,
            "trusted": contact.trusted,
            "version": 1,
            # By a clock that is ahead it would shut out all that comes until then.
            "as_of": min(contact.as_of, now()),
            "name": contact.name.replace("\x00", "")[:_LONGEST_NAME],
            "email": email,
            "email_key": email_key(email),
            "phone": usable_phone(contact.phone),
            "locale": canonical(contact.locale) or "",
        }
        if contact.trusted and email:
            self._forget_claimed(contact.id, email)
        self._conn.execute(_feed(self._conn.dialect.name, trusted=contact.trusted), row)

    def find(self, recipient_id: str) -> Contact | None:
        row = self._conn.execute(_FIND, {"tenant_is": self._tenant, "id_is": recipient_id}).one_or_none()
        return None if row is None else _contact(row)

    def find_all(self, recipient_ids: Collection[str]) -> dict[str, Contact]:
        """By id; only those that are known."""
        query = sa.select(contacts).where(contacts.c.tenant == self._tenant, contacts.c.id.in_(recipient_ids))
        return {row.id: _contact(row) for row in self._conn.execute(query)}

    def get(self, recipient_id: str) -> Contact:
        """Raises UnknownRecipient."""
        if (contact := self.find(recipient_id)) is None:
            raise UnknownRecipient(recipient_id)
        return contact

    def put(
        self,
        recipient_id: str,
        *,
        name: str,
        email: str,
        phone: str,
        locale: str,
        groups: Collection[str],
        version: int,
    ) -> Contact:
        """Staff's word, as a whole; `email` and `phone` as `usable_…` gives them. Raises ConcurrencyConflict."""
        row = {"name": name, "email": email, "email_key": email_key(email), "phone": phone, "locale": locale}
        row |= {"trusted": True, "version": version + 1, "as_of": now()}
        if version == 0:
            key = {"tenant": self._tenant, "id": recipient_id, "owner": ""}
            statement = upsert(self._conn, contacts).values(key | row).on_conflict_do_nothing()
        else:
            if email:  # none contradicts nobody
                self._forget_claimed(recipient_id, email)
                kept = sa.or_(contacts.c.trusted, contacts.c.email_key.in_(("", email_key(email))))
                row |= {"owner": sa.case((kept, contacts.c.owner), else_="")}
            statement = sa.update(contacts).where(*self._is(recipient_id), contacts.c.version == version).values(row)
        if self._conn.execute(statement).rowcount != 1:
            known = self.find(recipient_id)
            raise ConcurrencyConflict(known.version if known else 0)
        self._set_groups(recipient_id, groups)
        return self.get(recipient_id)

    def by_email(self, email: str) -> list[Contact]:
        """All who have this address, however it is written; first those who don't only claim it."""
        query = sa.select(contacts).where(contacts.c.tenant == self._tenant, contacts.c.email_key == email_key(email))
        return [_contact(row) for row in self._conn.execute(query.order_by(contacts.c.trusted.desc(), contacts.c.id))]

    def page(self, *, group: str | None, after: str | None, limit: int) -> list[Contact]:
        """By id, after the id `after`; of one group or of all."""
        query = sa.select(contacts).where(contacts.c.tenant == self._tenant)
        if group is not None:
            query = _within(query, group)
        if after is not None:
            query = query.where(contacts.c.id > after)
        return [_contact(row) for row in self._conn.execute(query.order_by(contacts.c.id).limit(limit))]

    # --- groups: whom an event means that names no person, such as "branch:B-1" ---

    def members(self, group: str) -> list[Contact]:
        query = _within(sa.select(contacts).where(contacts.c.tenant == self._tenant), group)
        return [_contact(row) for row in self._conn.execute(query.order_by(contacts.c.id))]

    def groups_of(self, recipient_ids: Collection[str]) -> dict[str, list[str]]:
        """By recipient, in order; only those that are in any."""
        table = contact_groups
        query = sa.select(table.c.recipient_id, table.c.group_name).where(
            table.c.tenant == self._tenant, table.c.recipient_id.in_(recipient_ids)
        )
        found: dict[str, list[str]] = defaultdict(list)
        for row in self._conn.execute(query.order_by(table.c.group_name)):
            found[row.recipient_id].append(row.group_name)
        return dict(found)

    def _set_groups(self, recipient_id: str, groups: Collection[str]) -> None:
        table = contact_groups
        self._conn.execute(sa.delete(table).where(table.c.tenant == self._tenant, table.c.recipient_id == recipient_id))
        row = {"tenant": self._tenant, "recipient_id": recipient_id}
        if rows := [row | {"group_name": group} for group in sorted(set(groups))]:
            self._conn.execute(sa.insert(table), rows)

    def _forget_claimed(self, recipient_id: str, email: str) -> None:
        """What somebody at another address, who only claimed to be this recipient, wished for in that name."""
        other_address = contacts.c.email_key.not_in(("", email_key(email)))
        claimed = sa.exists().where(*self._is(recipient_id), contacts.c.trusted.is_(False), other_address)
        wishes = sa.and_(preferences.c.tenant == self._tenant, preferences.c.recipient_id == recipient_id)
        self._conn.execute(sa.delete(preferences).where(wishes, claimed))

    def _is(self, recipient_id: str) -> tuple[sa.ColumnElement[bool], ...]:
        return contacts.c.tenant == self._tenant, contacts.c.id == recipient_id


_FIND = sa.select(contacts).where(
    contacts.c.tenant == sa.bindparam("tenant_is"), contacts.c.id == sa.bindparam("id_is")
)


@cache
def _feed(dialect: str, *, trusted: bool) -> Any:
    """Built once: building a statement costs several times what running it does."""
    insert = upsert_in(dialect, contacts)
    new, claimed = insert.excluded, contacts.c.trusted.is_(False)
    newer = new.as_of > contacts.c.as_of
    merged: dict[str, Any] = {
        name: sa.func.coalesce(sa.func.nullif(new[name], ""), contacts.c[name]) for name in _KNOWN
    }
    if trusted:
        merged = {name: sa.case((claimed, new[name]), else_=value) for name, value in merged.items()}
        merged["owner"] = new.owner
        changes = claimed | newer
    else:
        changes = claimed & newer & (contacts.c.owner != "") & (contacts.c.owner == new.owner)
    differs = sa.or_(*(merged[name] != contacts.c[name] for name in merged))
    return insert.on_conflict_do_update(
        index_elements=[contacts.c.tenant, contacts.c.id],
        # `as_of` moves with equal data too, or what comes from between would count as newer; but staff who are just
        # editing are not told of a conflict where nothing changed.
        set_={
            **merged,
            "trusted": new.trusted,
            "as_of": new.as_of,
            "version": contacts.c.version + sa.case((differs, 1), else_=0),
        },
        where=changes,
    )


_CASELESS = str.maketrans(ascii_uppercase, ascii_lowercase)


def email_key(email: str) -> str:
    """By ASCII letters alone: those of other scripts that look alike, or lose their case alike, are other people's."""
    return email.translate(_CASELESS)


def _within(query: sa.Select[Any], group: str) -> sa.Select[Any]:
    table = contact_groups
    same = sa.and_(table.c.tenant == contacts.c.tenant, table.c.recipient_id == contacts.c.id)
    return query.join(table, same).where(table.c.group_name == group)


def _contact(row: sa.Row[Any]) -> Contact:
    return Contact(
        id=row.id,
        as_of=row.as_of,
        owner=row.owner,
        name=row.name,
        email=row.email,
        phone=row.phone,
        locale=row.locale,
        trusted=row.trusted,
        version=row.version,
    )
