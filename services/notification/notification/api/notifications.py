"""The send command, and the history of what was sent."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from pydantic import AwareDatetime, Field, StringConstraints

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.ids import now
from chassis.problems import Invalid
from chassis.telemetry import traceparent
from chassis.wire import Wire, example
from notification.api.send_request import IdempotencyKey, SendRequest, accepted, answers, key_of
from notification.api.shapes import Context, Text
from notification.domain import ChannelName, Notification, Status
from notification.queue.enqueue import enqueue
from notification.queue.history import Filter, Page
from notification.queue.new_notification import effect_of, new_notification
from notification.recipients.contacts import Contact
from notification.services import services
from notification.unit_of_work import UnitOfWork

_MAX_KEY = 255
_DEEPEST = 10_000  # rows that a page may lie below the first; a cursor goes as deep as there is anything

EventId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]


class SendCommand(
    SendRequest,
    json_schema_extra=example(
        eventId="welcome-c-1",
        recipientId="c-1",
        channel="email",
        templateCategory="Account",
        templateName="welcome",
    ),
):
    """`eventId` is what it tells of: asked for again, with the same recipient, channel and template, it is the same
    notification. `chain` are the channels that take over where `channel` can't reach the recipient."""

    event_id: EventId
    recipient_id: Text
    personalization_context: Context = Field(default_factory=dict[str, Any])


class SendAccepted(Wire):
    """`success`: it is written down, and nothing of it is lost. What became of it, the notification says."""

    notification_id: str
    success: Literal[True] = True


class AttemptView(Wire):
    channel: ChannelName
    provider: str
    outcome: str
    error: str | None
    ended_at: datetime


class NotificationView(Wire):
    """`channel` is the one that it went, or is to go, by. `content` is what was sent, with `…` for the token of a link
    that lets its recipient in; what went out in a digest has none. `error` is why it waits, or never arrived."""

    id: str
    event_id: str
    recipient_id: str
    channel: ChannelName
    category: str
    template: str
    locale: str
    status: Status
    subject: str | None
    content: str | None
    subject_id: str
    attempts: int
    error: str | None
    provider: str | None
    segments: int | None
    cost: str | None
    created_at: datetime
    next_attempt_at: datetime | None
    sent_at: datetime | None
    delivered_at: datetime | None


class NotificationDetail(NotificationView):
    tries: list[AttemptView]


class NotificationPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[NotificationView]
    next: str | None


async def page_of(
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=64, description="`next` of the page before")] = None,
) -> Page:
    """For every list that has pages by number as well as by cursor."""
    if cursor is None:
        if (page - 1) * page_size > _DEEPEST:
            raise Invalid("?page", f"pages go {_DEEPEST} rows deep; use a cursor, or a range of time")
        return Page(number=page, size=page_size)
    if page != 1:
        raise Invalid("?page", "give a page or a cursor, not both")
    try:
        known = str(UUID(cursor))
    except ValueError:
        raise Invalid("?cursor", "not a cursor of this list") from None
    return Page(size=page_size, cursor=known)


async def _filter(
    recipient_id: Annotated[Text | None, Query(alias="recipientId")] = None,
    channel: Annotated[ChannelName | None, Query()] = None,
    subject_id: Annotated[Text | None, Query(alias="subjectId", description="what it tells of: an order's id")] = None,
    since: Annotated[AwareDatetime | None, Query(alias="from", description="inclusive")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="inclusive")] = None,
) -> Filter:
    return Filter(
        recipient_id=recipient_id,
        channel=channel,
        subject_id=subject_id,
        since=_utc("?from", since),
        until=_utc("?to", until),
    )


def _utc(pointer: str, moment: datetime | None) -> datetime | None:
    try:
        return moment and moment.astimezone(UTC)
    except OverflowError:
        raise Invalid(pointer, "out of the calendar") from None


router = Routes(
    prefix="/api/v1/notifications",
    tags=["notifications"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


@router.get("")
async def list_notifications(
    request: Request, filters: Annotated[Filter, Depends(_filter)], page: Annotated[Page, Depends(page_of)]
) -> NotificationPage:
    """Newest first; a user's own, for staff everybody's."""
    caller = caller_of(request)
    units = services(request).units
    rows, following = await units.read(
        caller.tenant, lambda unit: unit.notifications.history(filters, page), owner=caller.owner
    )
    items = [NotificationView.model_validate(row, from_attributes=True) for row in rows]
    return NotificationPage(items=items, next=following)


@router.get(
    "/{notification_id}", responses=refused({403: "different-tenant, not-owner", 404: "notification-not-found"})
)
async def get_notification(request: Request, notification_id: Text) -> NotificationDetail:
    """With every attempt to send it, oldest first."""
    caller = caller_of(request)
    units = services(request).units

    def work(unit: UnitOfWork) -> NotificationDetail:
        row = unit.notifications.get(notification_id)
        shown = NotificationView.model_validate(row, from_attributes=True)
        tries = [
            AttemptView.model_validate(attempt, from_attributes=True) for attempt in unit.notifications.attempts(row.id)
        ]
        return NotificationDetail(**shown.model_dump(), tries=tries)

    return await units.read(caller.tenant, work, owner=caller.owner)


@router.post("", status_code=202, response_model=SendAccepted, responses=answers("notification"))
async def send_notification(request: Request, command: SendCommand, idempotency_key: IdempotencyKey = None) -> Response:
    """Nothing of it is lost after the 202, whatever dies."""
    caller = caller_of(request)
    made = services(request)
    await command.require_template(made.catalog, caller.tenant)
    key = await key_of(request, "send", idempotency_key)
    parent = traceparent()

    def work(unit: UnitOfWork) -> tuple[str, bool]:
        if key and (known := unit.keys.find(key)) is not None:
            return known, True  # whatever has become of its recipient or template since
        command.require_words(unit.conn, unit.tenant)
        message = _message(command, unit.contacts.find(command.recipient_id), tenant=unit.tenant, parent=parent)
        enqueue(unit.conn, [message], at=now())
        row = unit.notifications.by_effect(message.effect)
        kept = message.id if row is None else row.id
        if key:  # for what stands there, which an earlier command without this key may have made
            unit.keys.take(key, kept)
        return kept, kept != message.id

    notification_id, replayed = await made.units.write(caller.tenant, work)
    made.sender.wake()
    answer = SendAccepted(notification_id=notification_id)
    return accepted(answer, f"/api/v1/notifications/{notification_id}", replayed=replayed)


def _message(command: SendCommand, contact: Contact | None, *, tenant: str, parent: str) -> Notification:
    """Raises Invalid where nothing could ever be sent."""
    if contact is None:
        raise Invalid("/recipientId", "There is no such recipient.")
    category, name = command.template_category, command.template_name
    message = new_notification(
        contact,
        (command.channel, *command.chain),
        tenant=tenant,
        effect=effect_of("send", command.event_id, command.channel, category, name, contact.id),
        owner=contact.owner,
        event_id=command.event_id,
        category=category,
        template=name,
        context=command.personalization_context,
        traceparent=parent,
    )
    if not message.address:
        raise Invalid("/recipientId", f"The recipient has no address for {command.channel}.")
    return message
