"""Recipients as staff sees them, and what each of them wants."""

from datetime import datetime
from typing import Annotated

from fastapi import Query, Request
from pydantic import AfterValidator, Field, StringConstraints

from chassis.addresses import email_address
from chassis.edge.auth import Caller, caller_of
from chassis.edge.routes import Routes, refused
from chassis.language_tags import LONGEST
from chassis.paging import Limit
from chassis.wire import RequestBody, Wire, example
from notification.domain import ChannelName, NotYours, UnknownRecipient
from notification.recipients.addresses import normalise
from notification.recipients.contacts import Contact, Contacts
from notification.recipients.preferences import Preference
from notification.recipients.stop_words import stopped
from notification.services import services
from notification.templates.locales import canonical
from notification.unit_of_work import UnitOfWork

_REFUSED = {422: "invalid-request", 503: "database-unavailable"}

Key = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Version = Annotated[int, Field(ge=0, lt=2**31 - 1, description="the one that was read; 0 for none yet")]


def _email(text: str) -> str:
    return email_address(text) if text else ""


def _e164(text: str) -> str:
    return normalise(text, None) if text else ""


def _locale(text: str) -> str:
    if not text:
        return ""
    if (known := canonical(text)) is None:
        raise ValueError("not a locale")
    return known


class RecipientBody(
    RequestBody,
    json_schema_extra=example(name="Ada", email="ada@example.org", phone="+12025550123", locale="en", version=1),
):
    """A recipient as a whole: what is left out becomes empty. `phone` is international, with its +."""

    name: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    email: Annotated[str, Field(max_length=254), AfterValidator(_email)] = ""
    phone: Annotated[str, Field(max_length=32), AfterValidator(_e164)] = ""
    locale: Annotated[str, Field(max_length=LONGEST), AfterValidator(_locale)] = ""
    groups: Annotated[tuple[Key, ...], Field(max_length=50, examples=[["branch:B-1"]])] = ()
    version: Version


class RecipientView(Wire):
    """`owner` is the subject who may see it besides staff, empty for nobody."""

    id: str
    owner: str
    name: str
    email: str
    phone: str
    locale: str
    groups: list[str]
    version: int
    as_of: datetime


class RecipientPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[RecipientView]
    next: str | None


class VersionedPreference(Preference, json_schema_extra=example(stopped=["sms"], timeZone="Europe/Berlin", version=1)):
    version: Version

    @classmethod
    def of(cls, preference: Preference, version: int) -> "VersionedPreference":
        return cls(**{name: getattr(preference, name) for name in Preference.model_fields}, version=version)

    def plain(self) -> Preference:
        return Preference(**{name: getattr(self, name) for name in Preference.model_fields})


router = Routes(prefix="/api/v1/recipients", tags=["recipients"], responses=refused(_REFUSED))

_PREFERENCES = "/{recipient_id}/preferences"
_WHOSE = {403: "not-owner", 404: "recipient-not-found"}


@router.get("")
async def list_recipients(
    request: Request,
    group: Annotated[Key | None, Query()] = None,
    limit: Limit = 20,
    cursor: Annotated[Key | None, Query(description="`next` of the page before")] = None,
) -> RecipientPage:
    """By id; all, or those of a group."""
    caller = caller_of(request)
    units = services(request).units

    def work(unit: UnitOfWork) -> RecipientPage:
        found = unit.contacts.page(group=group, after=cursor, limit=limit + 1)
        following = found[limit - 1].id if len(found) > limit else None
        return RecipientPage(items=_shown(unit.contacts, found[:limit]), next=following)

    return await units.read(caller.tenant, work)


@router.get("/{recipient_id}", responses=refused({404: "recipient-not-found"}))
async def get_recipient(request: Request, recipient_id: Key) -> RecipientView:
    caller = caller_of(request)
    units = services(request).units

    def work(unit: UnitOfWork) -> RecipientView:
        return _shown(unit.contacts, [unit.contacts.get(recipient_id)])[0]

    return await units.read(caller.tenant, work)


@router.put("/{recipient_id}", responses=refused({409: "concurrency-conflict"}))
async def put_recipient(request: Request, recipient_id: Key, body: RecipientBody) -> RecipientView:
    """What events told before is overwritten. What trusted sources tell later counts again; what an order says of
    its customer does not."""
    caller = caller_of(request)
    units = services(request).units

    def work(unit: UnitOfWork) -> RecipientView:
        return _shown(unit.contacts, [unit.contacts.put(recipient_id, **dict(body))])[0]

    return await units.write(caller.tenant, work)


@router.get(_PREFERENCES, responses=refused(_WHOSE))
async def get_preferences(request: Request, recipient_id: Key) -> VersionedPreference:
    """A user's own, for staff everybody's. Version 0 is the default: nobody has said anything yet."""
    caller = caller_of(request)
    units = services(request).units

    def work(unit: UnitOfWork) -> VersionedPreference:
        _require(caller, recipient_id, unit)
        return _held(unit, recipient_id)

    return await units.read(caller.tenant, work)


@router.put(_PREFERENCES, responses=refused(_WHOSE | {409: "concurrency-conflict"}))
async def put_preferences(request: Request, recipient_id: Key, body: VersionedPreference) -> VersionedPreference:
    """As a whole; only `stopped` stays as it is: it is the phone's own word."""
    caller = caller_of(request)
    units = services(request).units

    def work(unit: UnitOfWork) -> VersionedPreference:
        _require(caller, recipient_id, unit)
        unit.preferences.save(recipient_id, body.plain(), body.version)
        return _held(unit, recipient_id)

    return await units.write(caller.tenant, work)


def _require(caller: Caller, recipient_id: str, unit: UnitOfWork) -> None:
    """That they are the caller's. Raises UnknownRecipient or NotYours."""
    if recipient_id == caller.subject:
        return
    contact = unit.contacts.find(recipient_id)
    if contact is None and (caller.owner is not None or unit.preferences.of(recipient_id)[1] == 0):
        raise UnknownRecipient(recipient_id)
    if contact is not None and caller.owner not in {None, contact.owner}:
        raise NotYours("These are somebody else's preferences")


def _held(unit: UnitOfWork, recipient_id: str) -> VersionedPreference:
    """With what the phone that they have now has said."""
    preference, version = unit.preferences.of(recipient_id)
    contact = unit.contacts.find(recipient_id)
    if contact is not None and stopped(unit.conn, [contact.phone]):
        preference = preference.with_stop(ChannelName.SMS)
    return VersionedPreference.of(preference, version)


def _shown(contacts: Contacts, found: list[Contact]) -> list[RecipientView]:
    groups = contacts.groups_of([contact.id for contact in found])
    return [
        RecipientView(
            id=contact.id,
            owner=contact.owner,
            name=contact.name,
            email=contact.email,
            phone=contact.phone,
            locale=contact.locale,
            groups=groups.get(contact.id, []),
            version=contact.version,
            as_of=contact.as_of,
        )
        for contact in found
    ]
