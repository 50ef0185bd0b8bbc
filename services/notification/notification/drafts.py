"""An event's messages, one for each recipient of each of its routes, not yet written down."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from chassis.ids import new_id, now
from notification.contacts import Contacts
from notification.domain import ChannelName, Notification, UnknownRecipient
from notification.routing import News, Person, Route, context_of, group_of
from notification.store import effect_of

_LOCALE = "en"


def messages(
    conn: sa.Connection, news: News, routes: Sequence[Route], *, lease_until: datetime | None = None, group_id: str = ""
) -> list[Notification]:
    """The same event drafts the same effects, whenever it is asked again."""
    return [
        _draft(news, route, person, lease_until, group_id)
        for route in routes
        for person in _recipients(conn, news, route)
    ]


def _recipients(conn: sa.Connection, news: News, route: Route) -> Sequence[Person]:
    contacts = Contacts(conn, news.tenant)
    if route.group is not None:
        return contacts.members(group_of(route, news.data))
    if news.person is None:
        return []
    person = news.person
    if person.locale and any(person.address(channel) for channel in (route.channel, *route.chain)):
        return [person]
    try:
        known = contacts.get(person.id)  # what the event leaves out
    except UnknownRecipient:
        return [person]
    return [
        replace(
            person,
            name=person.name or known.name,
            email=person.email or known.email,
            phone=person.phone or known.phone,
            locale=person.locale or known.locale,
        )
    ]


def _draft(news: News, route: Route, person: Person, lease_until: datetime | None, group_id: str) -> Notification:
    channel, address, chain = first_reachable(person, (route.channel, *route.chain))
    return Notification(
        id=new_id(),
        tenant=news.tenant,
        effect=effect_of(news.topic, news.event_id, route.channel, route.category, route.template, person.id),
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


def first_reachable(
    person: Person, channels: Sequence[ChannelName]
) -> tuple[ChannelName, str, tuple[ChannelName, ...]]:
    """The first channel that reaches them, the address, and what is left of the chain. The address is empty where
    none does."""
    for number, channel in enumerate(channels):
        if address := person.address(channel):
            return channel, address, tuple(channels[number + 1 :])
    return channels[0], "", ()
