"""An event's messages, one for each recipient of each of its routes, not yet written down."""

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from notification.domain import Notification
from notification.incoming.read_event import RoutedEvent, context_of, group_of
from notification.incoming.routing_table import Route
from notification.queue.new_notification import effect_of, new_notification
from notification.recipients.contacts import Contact, Contacts, Recipient


def messages(
    conn: sa.Connection,
    event: RoutedEvent,
    routes: Sequence[Route],
    *,
    group_id: str = "",
) -> list[Notification]:
    """The same event drafts the same effects, whenever it is asked again."""
    contacts = Contacts(conn, event.tenant)
    known = contacts.find(event.recipient.id) if event.recipient and routes else None
    drafts: list[Notification] = []
    for route in routes:
        if route.group is not None:
            recipients: Sequence[Recipient] = contacts.members(group_of(route, event.data))
        else:
            recipients = [_recipient(event, event.recipient, known)] if event.recipient else []
        drafts += [_draft(event, route, recipient, group_id) for recipient in recipients]
    return drafts


def _recipient(event: RoutedEvent, recipient: Recipient, known: Contact | None) -> Recipient:
    """What the event leaves out is known, if it is for whoever tells the event. An order under another's customer id
    goes as it was typed, under an id that is nobody's: that person's wishes, caps and links are not its caller's, and
    whatever becomes of it must not show whether what was typed is that person's."""
    if known is None:
        return recipient
    if not event.trusted and (event.owner or known.id) not in {known.owner, known.id}:
        return replace(recipient, id=f"claimed-{effect_of(event.owner, recipient.id)[:40]}")
    if not known.trusted and known.owner != (event.owner or known.id):
        return recipient  # somebody else typed that contact: what is meant for this person does not go there
    return replace(
        recipient,
        name=recipient.name or known.name,
        email=recipient.email or known.email,
        phone=recipient.phone or known.phone,
        locale=recipient.locale or known.locale,
    )


def _draft(event: RoutedEvent, route: Route, recipient: Recipient, group_id: str) -> Notification:
    return new_notification(
        recipient,
        (route.channel, *route.chain),
        tenant=event.tenant,
        effect=effect_of(event.topic, *event.known_by, _sameness(route), recipient.id),
        owner=event.owner,
        event_id=event.event_id,
        topic=event.topic,
        subject_id=event.subject_id,
        version=event.version,
        latest_only=route.latest_only,
        category=route.category,
        template=route.template,
        context=context_of(route, event.data),
        critical=route.critical,
        traceparent=event.traceparent,
        group_id=group_id,
    )


def _sameness(route: Route) -> str:
    """What makes two routes of one event two messages: that they differ at all, be it by their step, group, condition
    or constants. By their words and not by their place: only a saga drafts an event again, along the routes that it
    has kept, but were they ever put in another order nobody would be told twice. What is left at its default is left
    out, so that a field that `Route` gets one day changes nothing for the sagas under way."""
    return route.model_dump_json(by_alias=True, exclude_defaults=True)
