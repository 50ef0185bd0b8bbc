"""An event's messages, one for each recipient of each of its routes, not yet written down."""

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from notification.domain import ChannelName, Notification
from notification.incoming.read_event import RoutedEvent, context_of, group_of
from notification.incoming.routing_table import Route
from notification.queue.new_notification import effect_of, new_notification
from notification.recipients.contacts import Contact, Contacts, Recipient, email_key, first_reachable


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
            recipients = [_recipient(event, event.recipient, known, route)] if event.recipient else []
        made = [_draft(event, route, recipient, group_id) for recipient in recipients]
        # The next channel of a chain takes its address from the contact (recipients.permission.handed_on).
        goes_on = route.group is not None or _is_their_own(event, known)
        drafts += made if goes_on else [replace(draft, chain=()) for draft in made]
    return drafts


def _is_their_own(event: RoutedEvent, known: Contact | None) -> bool:
    """Whether what is known of the person is for whoever tells the event, and not for an order under another's id."""
    return event.trusted or (known is not None and (event.owner or known.id) == known.owner)


def _recipient(event: RoutedEvent, recipient: Recipient, known: Contact | None, route: Route) -> Recipient:
    if known is None:
        return recipient
    whole = recipient.locale and any(recipient.address(channel) for channel in (route.channel, *route.chain))
    own = _is_their_own(event, known)
    if not own and not _reached_by(recipient, known, route):
        # Whoever orders under another's id, to an address of their own: neither that person's wishes and caps nor the
        # link that changes them are theirs.
        return replace(recipient, id=f"claimed-{effect_of(event.owner, recipient.id)[:40]}")
    if whole:
        return recipient
    recipient = replace(recipient, locale=recipient.locale or known.locale)
    if not own:
        return recipient
    return replace(
        recipient,
        name=recipient.name or known.name,
        email=recipient.email or known.email,
        phone=recipient.phone or known.phone,
    )


def _reached_by(recipient: Recipient, known: Recipient, route: Route) -> bool:
    """Whether the message goes to that person's own address. Without a chain: see `messages`."""
    channel, address, _ = first_reachable(recipient, (route.channel, *route.chain))
    its = known.address(channel)
    if channel in {ChannelName.EMAIL, ChannelName.PUSH}:
        address, its = email_key(address), email_key(its)
    return address in {"", its}


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
