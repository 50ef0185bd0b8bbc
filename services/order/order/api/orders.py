"""Orders: placed, looked at, moved and cancelled."""

from typing import Annotated

from fastapi import Header, Query, Request, Response

from chassis.edge.auth import Caller, caller_of
from chassis.edge.routes import Routes, record_of, refused
from chassis.ids import id_or, new_id
from chassis.paging import Cursor, Limit, decode_cursor, next_cursor
from order import placing
from order.api.answers import JSON, OWED, PLACED, cancelled, placed, shown
from order.domain import CUSTOMER_ID, STAFF_MOVES, IllegalMove, Order, OrderNotFound, Shape, Status
from order.event_records import EventRecord
from order.idempotency import MAX_KEY
from order.requests import OrderRequest, Shipment, StatusChange
from order.services import services
from order.store import OrderStore
from order.timeline import TimelineEntry

router = Routes(prefix="/api/v1", tags=["orders"])


OrderId = Annotated[str, id_or(OrderNotFound)]

RESPOND_ASYNC = "respond-async-default"  # the flag of a tenant that doesn't wait unless asked to

# For OpenAPI.
_NOT_THEIRS = {403: "different-tenant, not-owner"}
_NO_ORDER = {404: "order-not-found"} | _NOT_THEIRS
_NOT_PLACED = {
    402: "payment-declined",
    409: "out-of-stock, idempotency-in-flight, order-cancelled",
    422: "invalid-request, idempotency-mismatch",
    503: "database-unavailable, sidecar-unavailable, statestore-unavailable; nothing was written",
}
_CANNOT_CANCEL = {404: "order-not-found", 409: "illegal-move"} | _NOT_THEIRS
_MOVED = {403: "different-tenant", 404: "order-not-found", 409: "illegal-move", 422: "invalid-request"}


class OrderPage(Shape):
    items: list[Order]
    next: str | None


class EventList(Shape):
    items: list[EventRecord]


def _store(request: Request) -> OrderStore:
    return services(request).stores.visible_to(caller_of(request))


@router.post("/orders", status_code=201, response_model=Order, responses=PLACED | refused(_NOT_PLACED))
async def place_order(
    request: Request,
    body: OrderRequest,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=MAX_KEY)] = None,
    prefer: Annotated[str | None, Header()] = None,
) -> Response:
    """201 confirmed; 202 while the outcome isn't known; 402 declined. With a key: the same order again."""
    caller = caller_of(request)
    known = False
    wait = _waits(request, caller, prefer or "")
    if idempotency_key is None:
        order = await placing.place(services(request), caller, body, new_id(), wait=wait)
    else:
        content = await request.body()
        order, known = await placing.place_once(services(request), caller, body, idempotency_key, content, wait=wait)
    record_of(request, order_id=order.id)
    return placed(order, replayed=known)


def _waits(request: Request, caller: Caller, prefer: str) -> bool:
    """As the caller prefers (RFC 7240), else as the caller's tenant has it."""
    preferences = prefer.lower()
    if "respond-async" in preferences or "wait" in preferences:
        return "respond-async" not in preferences
    return not services(request).flags.is_on(RESPOND_ASYNC, tenant=caller.tenant, targeting_key=caller.subject)


@router.get("/orders", response_model=OrderPage, responses=refused({422: "invalid-request"}))
async def list_orders(
    request: Request,
    status: Status | None = None,
    customer_id: Annotated[str | None, Query(alias="customerId", max_length=64, pattern=CUSTOMER_ID)] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """Newest first; `next` is the cursor of the page after this one, null at the end."""
    before = decode_cursor(cursor) if cursor is not None else None
    found = await _store(request).page(status=status, customer_id=customer_id, before=before, limit=limit + 1)
    following = next_cursor(found, limit, lambda row: row.id)
    page = OrderPage(items=found[:limit], next=following)
    return Response(page.model_dump_json(by_alias=True), media_type=JSON)


@router.get("/orders/{order_id}", response_model=Order, responses=refused(_NO_ORDER))
async def get_order(request: Request, order_id: OrderId) -> Response:
    return shown(await _store(request).get(order_id))


@router.get("/orders/{order_id}/timeline", response_model=list[TimelineEntry], responses=refused(_NO_ORDER))
async def get_order_timeline(request: Request, order_id: OrderId) -> list[TimelineEntry]:
    return await _store(request).timeline(order_id)


@router.get("/orders/{order_id}/events", responses=refused({403: "different-tenant", 404: "order-not-found"}))
async def list_order_events(request: Request, order_id: OrderId) -> EventList:
    """What was told of the order in the last week, oldest first."""
    return EventList(items=await _store(request).event_records(order_id))


@router.post("/orders/{order_id}/status", response_model=Order, responses=refused(_MOVED))
async def change_order_status(request: Request, order_id: OrderId, body: StatusChange) -> Response:
    if body.status not in STAFF_MOVES:
        current = await _store(request).get(order_id)
        raise IllegalMove(current.status, "what was asked for; staff moves it to preparation, ready or delivered")
    return shown(await _store(request).advance(order_id, Status(body.status)))


@router.post("/orders/{order_id}/ship", response_model=Order, responses=refused(_MOVED))
async def ship_order(request: Request, order_id: OrderId, body: Shipment) -> Response:
    return shown(await _store(request).advance(order_id, Status.SHIPPED, tracking_number=body.tracking_number))


@router.post("/orders/{order_id}/cancel", response_model=Order, responses=OWED | refused(_CANNOT_CANCEL))
async def cancel_order(request: Request, order_id: OrderId) -> Response:
    """200 once nothing is owed, 202 while money is still to be settled."""
    return cancelled(await placing.cancel(services(request), caller_of(request), order_id))
