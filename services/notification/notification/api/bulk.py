"""Bulk: one template to thousands, and how far it has come."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import Field

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.ids import now
from chassis.paging import Cursor, Limit, decode_cursor, encode_cursor
from chassis.telemetry import traceparent
from chassis.wire import RequestBody, Wire, example
from notification.api.send_request import IdempotencyKey, SendRequest, accepted, answers, key_of
from notification.api.shapes import Context, Text
from notification.bulk.bulks import BulkStore, NewBulk, Progress, Standing
from notification.bulk.worker import Bulks
from notification.domain import ChannelName
from notification.queue.history import Page
from notification.services import services

MAX_RECIPIENTS = 10_000
_MAX_KEY = 255


_UNKNOWN = {403: "different-tenant", 404: "bulk-not-found"}


class BulkRecipient(RequestBody):
    """`context` is laid over the common one."""

    recipient_id: Text
    context: Context = Field(default_factory=dict[str, Any])


class BulkRequest(
    SendRequest,
    json_schema_extra=example(
        channel="email",
        templateCategory="Account",
        templateName="welcome",
        recipients=[{"recipientId": "c-1"}, {"recipientId": "c-2"}],
    ),
):
    """10,000 recipients at most, in a body of 4 MB at most. `chain` are the channels that take over where `channel`
    can't reach somebody. Who is listed twice gets one message."""

    context: Context = Field(default_factory=dict[str, Any])
    recipients: Annotated[list[BulkRecipient], Field(min_length=1, max_length=MAX_RECIPIENTS)]

    def new_bulk(self, author: str) -> NewBulk:
        """With the trace of the request, which the messages go on with."""
        return NewBulk(
            channel=self.channel,
            chain=self.chain,
            category=self.template_category,
            template=self.template_name,
            context=self.context,
            recipients=[(recipient.recipient_id, recipient.context) for recipient in self.recipients],
            author=author,
            traceparent=traceparent(),
        )


class BulkAccepted(Wire):
    bulk_id: str
    total: int


class BulkHead(Wire):
    """`taken` of `total` recipients have their message, or a reason why they get none."""

    id: str
    channel: ChannelName
    template_category: str
    template_name: str
    total: int
    taken: int
    created_at: datetime

    @classmethod
    def fields_of(cls, row: Any) -> dict[str, Any]:
        template = {"template_category": row.category, "template_name": row.template}
        return template | {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}


class BulkCounts(Wire):
    """Recipients by where they stand; whoever couldn't be given a message has failed."""

    pending: int
    queued: int
    sending: int
    sent: int
    delivered: int
    bounced: int
    failed: int
    suppressed: int


class BulkView(BulkHead):
    """`completedAt` once nothing is pending, queued or being sent; `etaSeconds` until then, where the pace is known."""

    counts: BulkCounts
    completed_at: datetime | None
    eta_seconds: int | None


class BulkPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[BulkHead]
    next: str | None


class BulkResult(Wire):
    """`number` is the place in the list, from 0. `error` says why there is no message, or what became of it."""

    number: int
    recipient_id: str
    status: Standing = Field(validation_alias="standing")
    notification_id: str | None
    error: str | None


class BulkResultPage(Wire):
    """`next` is the `cursor` of the following page, null on the last one."""

    items: list[BulkResult]
    next: str | None


router = Routes(
    prefix="/api/v1/notifications/bulk",
    tags=["bulk"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


@router.post("", status_code=202, response_model=BulkAccepted, responses=answers("bulk"))
async def send_bulk(request: Request, body: BulkRequest, idempotency_key: IdempotencyKey = None) -> Response:
    """Nothing of it is lost after the 202. With an Idempotency-Key, sending it again answers the same bulk."""
    caller = caller_of(request)
    made = services(request)
    await body.require_template(made.catalog, caller.tenant)
    key = await key_of(request, "bulk", idempotency_key)
    bulk = body.new_bulk(caller.subject)
    await made.units.read(caller.tenant, lambda unit: body.require_words(unit.conn, unit.tenant))
    bulk_id, is_new = await made.units.write(
        caller.tenant, lambda unit: BulkStore(unit.conn, unit.tenant).create(bulk, key)
    )
    made.bulks.wake()
    answer = BulkAccepted(bulk_id=bulk_id, total=len(bulk.recipients))
    return accepted(answer, f"/api/v1/notifications/bulk/{bulk_id}", replayed=not is_new)


@router.get("")
async def list_bulks(request: Request, limit: Limit = 20, cursor: Cursor = None) -> BulkPage:
    """Newest first."""
    caller = caller_of(request)
    units = services(request).units
    page = Page(size=limit, cursor=None if cursor is None else decode_cursor(cursor))
    rows, following = await units.read(caller.tenant, lambda unit: BulkStore(unit.conn, unit.tenant).page(page))
    return BulkPage(
        items=[BulkHead(**BulkHead.fields_of(row)) for row in rows], next=following and encode_cursor(following)
    )


@router.get("/{bulk_id}", responses=refused(_UNKNOWN))
async def get_bulk(request: Request, bulk_id: Text) -> BulkView:
    caller = caller_of(request)
    made = services(request)
    progress = await made.units.read(caller.tenant, lambda unit: BulkStore(unit.conn, unit.tenant).progress(bulk_id))
    return _view(progress, made.bulks)


@router.get("/{bulk_id}/recipients", responses=refused(_UNKNOWN))
async def list_bulk_recipients(
    request: Request,
    bulk_id: Text,
    status: Standing | None = None,
    limit: Limit = 20,
    cursor: Annotated[int | None, Query(ge=0, lt=2**31, description="`next` of the page before")] = None,
) -> BulkResultPage:
    """What became of each, in the order of the list."""
    caller = caller_of(request)
    units = services(request).units
    rows = await units.read(
        caller.tenant,
        lambda unit: BulkStore(unit.conn, unit.tenant).recipients(
            bulk_id, standing=status, after=cursor, limit=limit + 1
        ),
    )
    items = [BulkResult.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return BulkResultPage(items=items, next=str(items[-1].number) if len(rows) > limit else None)


def _view(progress: Progress, bulks: Bulks) -> BulkView:
    return BulkView(
        **BulkHead.fields_of(progress.bulk),
        counts=BulkCounts(**{standing.value: count for standing, count in progress.counts.items()}),
        completed_at=progress.completed_at,
        eta_seconds=progress.eta_seconds(bulks.rates, now()),
    )
