"""The order API: validate, call, translate."""

import asyncio
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import AfterValidator
from sqlalchemy.exc import IntegrityError

from chassis.app import refused
from chassis.db import DATABASE_DOWN
from chassis.edge.auth import Caller, current_caller
from chassis.ids import new_id
from chassis.paging import decode_cursor, encode_cursor
from chassis.problems import Problem
from chassis.saga import Saga
from chassis.sidecar import Sidecar, SidecarDown
from chassis.tasks import Tasks
from chassis.telemetry import traceparent
from order.catalog import Catalog, Product
from order.domain import (
    CUSTOMER_ID,
    NOTHING_OWED,
    STAFF_MOVES,
    IllegalMove,
    Order,
    OrderNotFound,
    OutOfStock,
    Shape,
    Status,
)
from order.idempotency import MAX_KEY, IdempotencyRecords
from order.orders import OrderStore
from order.requests import OrderRequest, Shipment, StatusChange
from order.saga import Confirmed, OrderRef
from order.store import Charge, Stores
from order.telemetry import order_value, orders_placed
from order.timeline import TimelineEntry

log = structlog.get_logger()

JSON = "application/json"
CallerNow = Annotated[Caller, Depends(current_caller)]


def _order_id(text: str) -> str:
    """What is no id of ours names no order, and is not asked of a database."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise OrderNotFound from None


OrderId = Annotated[str, AfterValidator(_order_id)]

# For OpenAPI.
_NOT_THEIRS = {403: "different-tenant, not-owner"}
_NO_ORDER = {404: "order-not-found"} | _NOT_THEIRS
_PLACED_HEADERS: dict[str, Any] = {
    "Location": {"description": "The order's path", "required": True, "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true` when the key's order stood there already",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
_PLACED: dict[int | str, dict[str, Any]] = {
    201: {"description": "Confirmed", "headers": _PLACED_HEADERS},
    202: {"model": Order, "description": "The outcome isn't known yet", "headers": _PLACED_HEADERS},
}
_NOT_PLACED = {
    402: "payment-declined",
    409: "out-of-stock, idempotency-in-flight",
    422: "invalid-request, idempotency-mismatch",
    503: "database-unavailable, sidecar-unavailable, statestore-unavailable; nothing was written",
}
_CANNOT_CANCEL = {404: "order-not-found", 409: "illegal-move"} | _NOT_THEIRS
_MOVED = {403: "different-tenant", 404: "order-not-found", 409: "illegal-move", 422: "invalid-request"}


class CatalogPage(Shape):
    items: list[Product]


class OrderPage(Shape):
    items: list[Order]
    next: str | None


@dataclass(frozen=True, kw_only=True)
class OrderApi:
    """The parts that the routes call."""

    stores: Stores
    catalog: Catalog
    saga: Saga[OrderRef]
    records: IdempotencyRecords
    sidecar: Sidecar
    tasks: Tasks
    wait_seconds: float

    async def place(self, caller: Caller, request: OrderRequest, order_id: str, *, wait: bool) -> Order:
        """Write the order and drive its saga; the order as it is once that ended or the wait is over."""
        self.sidecar.require()
        order = await self.stores.visible_to(caller).place(
            order_id, request, owner=caller.subject, tenant_name=caller.tenant_name
        )
        orders_placed.add(1, {"tenant": caller.tenant})
        order_value.record(float(order.total.amount), {"currency": order.total.currency})
        just_written = Charge(
            total=order.total,
            method=request.payment.method,
            card_token=request.payment.token,
            created_at=order.created_at,
            settle_only=False,
        )
        return await self._drive(caller, order, wait=wait, known=just_written)

    async def place_once(
        self, caller: Caller, request: OrderRequest, key: str, body: bytes, *, wait: bool
    ) -> tuple[Order, bool]:
        """The key's one order, and whether it stood there already."""
        self.sidecar.require()
        self.catalog.price(request)  # refuse before anything is recorded under the key
        reservation = await self.records.reserve(caller, key, body)
        store = self.stores.visible_to(caller)
        if not reservation.first and (known := await store.find(reservation.order_id)) is not None:
            return known, True
        reservation.check_free()
        try:
            return await self.place(caller, request, reservation.order_id, wait=wait), False
        except IntegrityError:  # somebody else placed under the same id just now: the primary key decided
            return await store.get(reservation.order_id), True
        except OutOfStock:
            await self._free(caller, key)
            raise

    async def cancel(self, caller: Caller, order_id: str) -> Order:
        order = await self.stores.visible_to(caller).cancel(order_id)
        if order.payment.status in NOTHING_OWED:
            return order
        return await self._drive(caller, order, wait=True)

    async def _drive(self, caller: Caller, order: Order, *, wait: bool, known: Charge | None = None) -> Order:
        """A task drives, never the caller's connection: one who hangs up stops nothing.

        The order is committed, so from here on nothing is an error to the caller: what can't be read yet is a 202.
        """
        ref = OrderRef(tenant=order.tenant_id, tenant_name=caller.tenant_name, id=order.id, traceparent=traceparent())
        driving = self.tasks.spawn(self.saga.run_inline(ref, known=known), name=f"saga.{ref.id}")
        if not wait:
            return order
        await asyncio.wait({driving}, timeout=self.wait_seconds)
        if driving.done() and not driving.exception():
            match driving.result():
                case Confirmed(version=version, paid=paid) if version == order.version + 1:
                    return order.confirmed(payment_id=paid.payment_id, transaction_id=paid.transaction_id)
                case _:
                    pass
        try:
            return await self.stores.of(ref.tenant).get(ref.id)
        except DATABASE_DOWN:
            return order

    async def _free(self, caller: Caller, key: str) -> None:
        """Free the key of a refused request; where that fails its lease ends by itself."""
        try:
            await self.records.forget(caller, key)
        except SidecarDown:
            log.warning("idempotency.not_freed")


def routes(api: OrderApi) -> APIRouter:
    router = APIRouter(prefix="/api/v1")
    _catalog_routes(router, api)
    _read_routes(router, api)
    _place_route(router, api)
    _move_routes(router, api)
    return router


def _catalog_routes(router: APIRouter, api: OrderApi) -> None:
    answer = CatalogPage(items=api.catalog.products()).model_dump_json(by_alias=True)

    @router.get("/catalog", response_model=CatalogPage, tags=["catalog"])
    async def get_catalog() -> Response:
        return Response(answer, media_type=JSON)


def _place_route(router: APIRouter, api: OrderApi) -> None:
    @router.post(
        "/orders",
        status_code=201,
        response_model=Order,
        responses=_PLACED | refused(_NOT_PLACED),
        tags=["orders"],
    )
    async def place_order(
        request: Request,
        caller: CallerNow,
        body: OrderRequest,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=MAX_KEY)] = None,
        prefer: Annotated[str | None, Header()] = None,
    ) -> Response:
        """201 confirmed; 202 while the outcome isn't known; 402 declined. With a key: the same order again."""
        wait = "respond-async" not in (prefer or "").lower()
        if idempotency_key is None:
            return _placed(await api.place(caller, body, new_id(), wait=wait))
        order, replayed = await api.place_once(caller, body, idempotency_key, await request.body(), wait=wait)
        return _placed(order, replayed=replayed)


def _read_routes(router: APIRouter, api: OrderApi) -> None:
    @router.get("/orders", response_model=OrderPage, responses=refused({422: "invalid-request"}), tags=["orders"])
    async def list_orders(
        caller: CallerNow,
        status: Status | None = None,
        customer_id: Annotated[str | None, Query(alias="customerId", max_length=64, pattern=CUSTOMER_ID)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Response:
        """Newest first; `next` is the cursor of the page after this one, null at the end."""
        before = decode_cursor(cursor) if cursor is not None else None
        found = await api.stores.visible_to(caller).page(
            status=status, customer_id=customer_id, before=before, limit=limit + 1
        )
        following = encode_cursor(found[limit - 1].id) if len(found) > limit else None
        page = OrderPage(items=found[:limit], next=following)
        return Response(page.model_dump_json(by_alias=True), media_type=JSON)

    @router.get("/orders/{order_id}", response_model=Order, responses=refused(_NO_ORDER), tags=["orders"])
    async def get_order(caller: CallerNow, order_id: OrderId) -> Response:
        return _shown(await api.stores.visible_to(caller).get(order_id))

    @router.get(
        "/orders/{order_id}/timeline",
        response_model=list[TimelineEntry],
        responses=refused(_NO_ORDER),
        tags=["orders"],
    )
    async def get_timeline(caller: CallerNow, order_id: OrderId) -> list[TimelineEntry]:
        return await api.stores.visible_to(caller).timeline(order_id)


def _move_routes(router: APIRouter, api: OrderApi) -> None:
    def store(caller: Caller) -> OrderStore:
        return api.stores.visible_to(caller)

    @router.post("/orders/{order_id}/status", response_model=Order, responses=refused(_MOVED), tags=["orders"])
    async def change_status(caller: CallerNow, order_id: OrderId, body: StatusChange) -> Response:
        if body.status not in STAFF_MOVES:
            current = await store(caller).get(order_id)
            raise IllegalMove(current.status, "what was asked for; staff moves it to preparation, ready or delivered")
        return _shown(await store(caller).advance(order_id, Status(body.status)))

    @router.post("/orders/{order_id}/ship", response_model=Order, responses=refused(_MOVED), tags=["orders"])
    async def ship_order(caller: CallerNow, order_id: OrderId, body: Shipment) -> Response:
        return _shown(await store(caller).advance(order_id, Status.SHIPPED, tracking_number=body.tracking_number))

    @router.post(
        "/orders/{order_id}/cancel",
        response_model=Order,
        responses={202: {"model": Order, "description": "Money is still to be settled"}} | refused(_CANNOT_CANCEL),
        tags=["orders"],
    )
    async def cancel_order(caller: CallerNow, order_id: OrderId) -> Response:
        """200 once nothing is owed, 202 while money is still to be settled."""
        order = await api.cancel(caller, order_id)
        return _shown(order, status=200 if order.payment.status in NOTHING_OWED else 202)


def _shown(order: Order, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(order.model_dump_json(by_alias=True), status, headers=headers, media_type=JSON)


def _placed(order: Order, *, replayed: bool = False) -> Response:
    headers = {"Location": f"/api/v1/orders/{order.id}"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    match order.status:
        case Status.PENDING_PAYMENT:
            return _shown(order, 202, headers)
        case Status.PAYMENT_FAILED:
            raise _payment_declined(order, headers)
        case _:
            return _shown(order, 201, headers)


def _payment_declined(order: Order, headers: dict[str, str]) -> Problem:
    members: dict[str, Any] = {"orderId": order.id, "failedStep": "charge"}
    return Problem(
        status=402,
        error_type="payment-declined",
        title="The payment was declined",
        detail="Nothing was charged and nothing is reserved.",
        headers=headers,
        members=members,
    )
