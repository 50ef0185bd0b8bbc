"""HTTP in: the history of notifications, and the dead letters."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, cast
from uuid import UUID

import orjson
import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, StringConstraints

from chassis.app import refused
from chassis.auth import Caller, current_caller
from chassis.db import Database
from chassis.events import Wire
from chassis.problems import Invalid
from chassis.sidecar import Sidecar, SidecarDown
from notification.domain import DEFAULT_TENANT, ChannelName, NotReplayable, Status
from notification.store import NO_ID, Filter, Letters, Page, Store


class NotificationView(Wire):
    id: str
    event_id: str
    recipient_id: str
    channel: ChannelName
    template: str
    status: Status
    subject: str | None
    order_id: str
    attempts: int
    error: str | None
    created_at: datetime
    sent_at: datetime | None


class NotificationPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[NotificationView]
    next: str | None


class DeadLetterView(Wire):
    """`body` is what was delivered, as it came."""

    id: str
    topic: str
    event_id: str
    type: str
    body: str
    received_at: datetime
    replayed_at: datetime | None


class DeadLetterPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[DeadLetterView]
    next: str | None


Text = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00]+$")]


async def _page(
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=64, description="`next` of the page before")] = None,
) -> Page:
    if cursor is None:
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
    order_id: Annotated[Text | None, Query(alias="orderId")] = None,
    since: Annotated[AwareDatetime | None, Query(alias="from", description="inclusive")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="exclusive")] = None,
) -> Filter:
    return Filter(
        recipient_id=recipient_id,
        channel=channel,
        order_id=order_id,
        since=_utc("?from", since),
        until=_utc("?to", until),
    )


def _utc(pointer: str, moment: datetime | None) -> datetime | None:
    try:
        return moment and moment.astimezone(UTC)
    except OverflowError:
        raise Invalid(pointer, "out of the calendar") from None


def routes(*, db: Database, sidecar: Sidecar, pubsub: str) -> APIRouter:
    always = refused({422: "invalid-request", 503: "database-unavailable"})
    router = APIRouter(prefix="/api/v1", responses=always)

    async def store(caller: Annotated[Caller, Depends(current_caller)]) -> Store:
        return Store(db, caller.tenant, caller.owner)

    async def letters(caller: Annotated[Caller, Depends(current_caller)]) -> Letters:
        return Letters(db, caller.tenant)

    router.include_router(_history(store))
    router.include_router(_dead_letters(letters, sidecar, pubsub))
    return router


def _history(store: Callable[..., Awaitable[Store]]) -> APIRouter:
    router = APIRouter(prefix="/notifications", tags=["notifications"])

    @router.get("")
    async def list_notifications(
        wanted: Annotated[Filter, Depends(_filter)],
        page: Annotated[Page, Depends(_page)],
        store: Annotated[Store, Depends(store)],
    ) -> NotificationPage:
        """Newest first; a user's own, for staff everybody's."""
        rows, following = await store.history(wanted, page)
        return NotificationPage(items=[_shown(NotificationView, row) for row in rows], next=following)

    @router.get(
        "/{notification_id}", responses=refused({403: "different-tenant, not-owner", 404: "notification-not-found"})
    )
    async def get_notification(notification_id: Text, store: Annotated[Store, Depends(store)]) -> NotificationView:
        return _shown(NotificationView, await store.notification(notification_id))

    return router


def _dead_letters(letters: Callable[..., Awaitable[Letters]], sidecar: Sidecar, pubsub: str) -> APIRouter:
    router = APIRouter(prefix="/dead-letters", tags=["dead letters"])

    @router.get("")
    async def list_dead_letters(
        page: Annotated[Page, Depends(_page)], letters: Annotated[Letters, Depends(letters)]
    ) -> DeadLetterPage:
        """Newest first."""
        rows, following = await letters.page(page)
        return DeadLetterPage(items=[_shown(DeadLetterView, row) for row in rows], next=following)

    @router.post(
        "/{letter_id}/replay",
        responses=refused(
            {
                403: "different-tenant",
                404: "dead-letter-not-found",
                409: "not-replayable",
                503: "database-unavailable, sidecar-unavailable, broker-unavailable",
            }
        ),
    )
    async def replay_dead_letter(letter_id: Text, letters: Annotated[Letters, Depends(letters)]) -> DeadLetterView:
        """Publish the event again to the topic it came by, under its own id."""
        row = await letters.letter(letter_id)
        if await sidecar.publish(pubsub, row.topic, [_event(row)]):
            raise SidecarDown("broker")
        return _shown(DeadLetterView, await letters.replayed(letter_id))

    return router


def _event(row: sa.Row[Any]) -> dict[str, Any]:
    """The event as it was published first. Where it was delivered is the broker's to say, so that is left out."""
    if not row.topic or not row.type or row.event_id.startswith(NO_ID):
        raise NotReplayable(row.id)
    body = cast("dict[str, Any]", orjson.loads(row.body))
    if body.get("tenantid", DEFAULT_TENANT) != row.tenant:
        raise NotReplayable(row.id)  # it names no tenant that could be kept: whoever replays it acts for another one
    return {"data": None} | {key: value for key, value in body.items() if key not in {"topic", "pubsubname"}}


V = TypeVar("V", bound=Wire)


def _shown(view: type[V], row: sa.Row[Any]) -> V:
    return view.model_validate(row, from_attributes=True)
