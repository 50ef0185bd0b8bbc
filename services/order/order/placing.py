"""Placing an order, once however often it is asked for, and driving its saga while the caller waits."""

import asyncio

import structlog
from sqlalchemy.exc import IntegrityError

from chassis.db import DATABASE_DOWN
from chassis.edge.auth import Caller
from chassis.ids import now
from chassis.sidecar import SidecarDown
from chassis.telemetry import traceparent
from order.domain import NOTHING_OWED, Order, OutOfStock
from order.requests import OrderRequest
from order.saga import Confirmed, OrderRef
from order.saga_store import Charge
from order.services import Services
from order.telemetry import order_value, orders_placed, tell_refused

log = structlog.get_logger()


async def place(services: Services, caller: Caller, request: OrderRequest, order_id: str, *, wait: bool) -> Order:
    """Write the order and drive its saga; the order as it is once that ended or the wait is over."""
    services.sidecar.require()
    store, began = services.stores.visible_to(caller), now()
    try:
        order = await store.place(order_id, request, owner=caller.subject, tenant_name=caller.tenant_name)
    except OutOfStock:
        tell_refused(request.customer.id, "out-of-stock", began=began)
        raise
    orders_placed.add(1, {"tenant": caller.tenant})
    order_value.record(float(order.total.amount), {"currency": order.total.currency})
    just_written = Charge(
        total=order.total,
        method=request.payment.method,
        card_token=request.payment.token,
        created_at=order.created_at,
        settle_only=False,
    )
    return await _drive(services, caller, order, wait=wait, known=just_written)


async def place_once(
    services: Services, caller: Caller, request: OrderRequest, key: str, body: bytes, *, wait: bool
) -> tuple[Order, bool]:
    """The key's one order, and whether it stood there already."""
    services.sidecar.require()
    (await services.catalogs.of(caller.tenant)).price(request)  # refuse before anything is recorded under the key
    reservation = await services.records.reserve(caller, key, body)
    store = services.stores.visible_to(caller)
    if not reservation.first and (known := await store.find(reservation.order_id)) is not None:
        return known, True
    reservation.check_free()
    try:
        return await place(services, caller, request, reservation.order_id, wait=wait), False
    except IntegrityError:  # somebody else placed under the same id just now: the primary key decided
        return await store.get(reservation.order_id), True
    except OutOfStock:
        await _free(services, caller, key)
        raise


async def cancel(services: Services, caller: Caller, order_id: str) -> Order:
    order = await services.stores.visible_to(caller).cancel(order_id)
    return order if order.payment.status in NOTHING_OWED else await _drive(services, caller, order, wait=True)


async def _drive(services: Services, caller: Caller, order: Order, *, wait: bool, known: Charge | None = None) -> Order:
    """A task drives, never the caller's connection: one who hangs up stops nothing.

    The order is committed, so from here on nothing is an error to the caller: what can't be read yet is a 202.
    """
    ref = OrderRef(tenant=order.tenant_id, tenant_name=caller.tenant_name, id=order.id, traceparent=traceparent())
    driving = services.tasks.spawn(services.saga.run_inline(ref, known=known), name=f"saga.{ref.id}")
    if not wait:
        return order
    await asyncio.wait({driving}, timeout=services.settings.wait_seconds)
    if driving.done() and not driving.exception():
        match driving.result():
            case Confirmed(version=version, paid=paid) if version == order.version + 1:
                return order.confirmed(payment_id=paid.payment_id, transaction_id=paid.transaction_id)
            case _:
                pass
    try:
        return await services.stores.of(ref.tenant).get(ref.id)
    except DATABASE_DOWN:
        return order


async def _free(services: Services, caller: Caller, key: str) -> None:
    """Free the key of a refused request; where that fails its lease ends by itself."""
    try:
        await services.records.forget(caller, key)
    except SidecarDown:
        log.warning("idempotency.not_freed")
