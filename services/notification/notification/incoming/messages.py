"""An event's messages, one for each recipient of each of its routes, not yet written down."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from chassis.ids import new_id, now
from notification.domain import ChannelName, Notification
from notification.incoming.read_event import News, context_of, group_of
from notification.incoming.routing_table import Route
from notification.queue.new_notification import effect_of
from notification.recipients.contacts import Contact, Contacts, Person, email_key, first_reachable

_LOCALE = "en"


def messages(
    conn: sa.Connection, news: News, routes: Sequence[Route], *, lease_until: datetime | None = None, group_id: str = ""
) -> list[Notification]:
    """The same event drafts the same effects, whenever it is asked again."""
    people = Contacts(conn, news.tenant)
    known = people.find(news.person.id) if news.person and routes else None
    drafts: list[Notification] = []
    for route in routes:
        if route.group is not None:
            told = people.members(group_of(route, news.data))
        else:
            told = [_recipient(news, news.person, known, route)] if news.person else []
        made = [_draft(news, route, person, lease_until, group_id) for person in told]
        # The next channel of a chain takes its address from the contact (recipients.permission.handed_on).
        goes_on = route.group is not None or _theirs(news, known)
        drafts += made if goes_on else [replace(one, chain=()) for one in made]
    return drafts


def _theirs(news: News, known: Contact | None) -> bool:
    """Whether what is known of the person is for whoever tells the event, and not for an order under another's id."""
    return news.trusted or (known is not None and (news.owner or known.id) == known.owner)


def _recipient(news: News, person: Person, known: Contact | None, route: Route) -> Person:
    if known is None:
        return person
    whole = person.locale and any(person.address(channel) for channel in (route.channel, *route.chain))
    theirs = _theirs(news, known)
    if not theirs and not _reached_by(person, known, route):
        # Whoever orders under another's id, to an address of their own: neither that person's wishes and caps nor the
        # link that changes them are theirs.
        return replace(person, id=f"claimed-{effect_of(news.owner, person.id)[:40]}")
    if whole:
        return person
    person = replace(person, locale=person.locale or known.locale)
    if not theirs:
        return person
    return replace(
        person,
        name=person.name or known.name,
        email=person.email or known.email,
        phone=person.phone or known.phone,
    )


def _reached_by(person: Person, known: Person, route: Route) -> bool:
    """Whether the message goes to that person's own address. Without a chain: see `messages`."""
    channel, address, _ = first_reachable(person, (route.channel, *route.chain))
    its = known.address(channel)
    if channel in {ChannelName.EMAIL, ChannelName.PUSH}:
        address, its = email_key(address), email_key(its)
    return address in {"", its}


def _draft(news: News, route: Route, person: Person, lease_until: datetime | None, group_id: str) -> Notification:
    channel, address, chain = first_reachable(person, (route.channel, *route.chain))
    return Notification(
        id=new_id(),
        tenant=news.tenant,
        effect=effect_of(news.topic, news.event_id, _sameness(route), person.id),
        owner=news.owner or person.id,
        event_id=news.event_id,
        topic=news.topic,
        subject_id=news.subject_id,
        version=news.version,
        latest_only=route.latest_only,
        recipient_id=person.id,
        channel=channel,
        chain=chain,
        address=address,
        category=route.category,
        template=route.template,
        locale=person.locale or _LOCALE,
        context=context_of(route, news.data),
        critical=route.critical,
        traceparent=news.traceparent,
        created_at=now(),
        group_id=group_id,
        lease_until=lease_until,
    )


def _sameness(route: Route) -> str:
    """What makes two routes of one event two messages: that they differ at all, be it by their step, group, condition
    or constants. By their words and not by their place: only a saga drafts an event again, along the routes that it
    has kept, but were they ever put in another order nobody would be told twice. What is left at its default is left
    out, so that a field that `Route` gets one day changes nothing for the sagas under way."""
    return route.model_dump_json(by_alias=True, exclude_defaults=True)
