"""Events in: what happened to orders, and the dead letters. Handlers commit, wake the sender, and do nothing else."""

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, cast

import orjson
import structlog
from fastapi import FastAPI, Request
from pydantic import Field, StringConstraints

from chassis.db import Database
from chassis.events import CloudEvent, Handler, Wire
from chassis.ids import new_id, now
from chassis.problems import DATABASE_DOWN
from chassis.telemetry import told_of
from notification import store
from notification.domain import DEFAULT_TENANT, Notification
from notification.routing import Route, at_path, routes_for
from notification.sender import Sender
from notification.store import NO_ID, DeadLetter, News

log = structlog.get_logger()

# As wide as their columns; ids also stand in headers.
Id = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,64}$")]
Text = Annotated[str, StringConstraints(max_length=1000)]


class Customer(Wire):
    id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    name: Text
    email: Annotated[str, StringConstraints(max_length=320)]


class Item(Wire):
    name: Text
    variation: Text | None = None
    quantity: int


class Money(Wire):
    amount: str
    currency: str


class OrderNews(Wire):
    order_id: Id
    owner_id: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None  # older events have none
    version: int = Field(ge=1, lt=2**31)
    status: Annotated[str, StringConstraints(max_length=32)]
    customer: Customer
    items: list[Item]
    total: Money


class PaymentFailed(OrderNews):
    reason: Text


class Shipped(OrderNews):
    tracking_number: Annotated[str, StringConstraints(min_length=1, max_length=64)]


# Every type on the topic that is told to somebody, by the shape of its data; others are acknowledged.
SHAPES: Mapping[str, type[OrderNews]] = {
    "order.confirmed.v1": OrderNews,
    "order.payment-failed.v1": PaymentFailed,
    "order.cancelled.v1": OrderNews,
    "order.status-changed.v1": OrderNews,
    "order.shipped.v1": Shipped,
}


def order_handlers(db: Database, sender: Sender) -> dict[str, Handler]:
    return dict.fromkeys(SHAPES, partial(tell_customer, db, sender))


async def tell_customer(db: Database, sender: Sender, event: CloudEvent) -> None:
    """Write down whom to tell what, once, and hand it to the sender."""
    data = SHAPES[event.type].model_validate(event.data)
    news = News(
        tenant=event.tenantid,
        event_id=event.id,
        order_id=data.order_id,
        version=data.version,
        status=data.status,
    )
    context = data.model_dump(mode="json", exclude={"owner_id"})  # nobody is told of it
    messages = [_message(event, data, context, route, sender) for route in routes_for(event.type, data.status)]
    if await db.write(lambda conn: store.take(conn, news, messages)):
        sender.hand_over(messages)


def _message(
    event: CloudEvent, data: OrderNews, context: Mapping[str, Any], route: Route, sender: Sender
) -> Notification:
    recipient = at_path(context, route.recipient)
    return Notification(
        id=new_id(),
        tenant=event.tenantid,
        owner=data.owner_id or recipient,
        event_id=event.id,
        order_id=data.order_id,
        version=data.version,
        recipient_id=recipient,
        address=at_path(context, route.address),
        channel=route.channel,
        template=route.template,
        context={**context, "status": route.told_as} if route.told_as else context,
        traceparent=event.traceparent[:64],
        created_at=now(),
        lease_until=sender.lease(),
    )


# --- dead letters ---

_SUCCESS, _RETRY = {"status": "SUCCESS"}, {"status": "RETRY"}


def keep_dead_letters(app: FastAPI, path: str, db: Database) -> None:
    """The route of every dead-letter topic. Whatever it is, it is kept as it came: nothing is refused a second time."""

    async def deliver(request: Request) -> dict[str, str]:
        letter = dead_letter(await request.body())
        with told_of(tenant=letter.tenant, event_id=letter.event_id):
            try:
                await db.write(lambda conn: store.keep_dead(conn, letter))
            except (*DATABASE_DOWN, OSError) as down:
                log.warning("dead_letter.retry", error=type(down).__name__)
                return _RETRY
            log.error("dead_letter.kept", topic=letter.topic, type=letter.type)
            return _SUCCESS

    app.post(path, include_in_schema=False)(deliver)


def dead_letter(body: bytes) -> DeadLetter:
    """A delivery as a row; what can't be read in it is left empty."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    event = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    return DeadLetter(
        tenant=_text(event.get("tenantid"), 64) or DEFAULT_TENANT,
        topic=_text(event.get("topic"), 128).removesuffix(".dead"),
        event_id=_text(event.get("id"), 255) or f"{NO_ID}{hashlib.sha256(body).hexdigest()}",
        type=_text(event.get("type"), 128),
        body=body.decode(errors="replace").replace("\x00", "\ufffd"),
    )


def _text(value: Any, longest: int) -> str:
    """`value` if it is a text that fits its column, else nothing."""
    return value if isinstance(value, str) and len(value) <= longest and value.isprintable() else ""
