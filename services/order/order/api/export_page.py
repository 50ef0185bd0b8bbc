"""Orders as the back office exports them: what the API shows staff, in columns."""

from typing import Any, Literal

import orjson
import sqlalchemy as sa
from fastapi import Request, Response

from chassis.edge.auth import Tenant
from chassis.edge.routes import Routes, refused
from chassis.export_pages import ExportColumn, ExportPage, ExportPageWanted, export_page
from chassis.wire import example
from order.domain import Status
from order.services import services
from order.tables import orders


def _customer(row: sa.Row[Any], name: str) -> str | None:
    return orjson.loads(row.customer).get(name)


def _items(row: sa.Row[Any]) -> str:
    return "; ".join(map(_item, orjson.loads(row.items)))


def _item(item: dict[str, Any]) -> str:
    variation = f" ({item['variation']})" if item.get("variation") else ""
    return f"{item['quantity']} x {item['name']}{variation}"


_COLUMNS = (
    ExportColumn(orders.c.id),
    ExportColumn(orders.c.status),
    ExportColumn(orders.c.created_at),
    ExportColumn(orders.c.customer_id),
    ExportColumn(orders.c.customer, name="customerName", cell=lambda row: _customer(row, "name")),
    ExportColumn(orders.c.customer, name="customerEmail", cell=lambda row: _customer(row, "email")),
    ExportColumn(orders.c.customer, name="customerPhone", cell=lambda row: _customer(row, "phone")),
    ExportColumn(orders.c["items"], cell=_items),
    ExportColumn(orders.c.total, number=True),
    ExportColumn(orders.c.currency),
    ExportColumn(orders.c.location),
    ExportColumn(orders.c.tracking_number),
    ExportColumn(orders.c.payment_status),
    ExportColumn(orders.c.payment_id),
    ExportColumn(orders.c.transaction_id),
    ExportColumn(orders.c.version, number=True),
)


class OrdersWanted(ExportPageWanted[Status], json_schema_extra=example(kind="orders", filters={"status": "confirmed"})):
    kind: Literal["orders"]


router = Routes(tags=["invoked"], responses=refused({422: "invalid-request", 503: "database-unavailable"}))


@router.post("/export-page", response_model=ExportPage)
async def export_orders(request: Request, tenant: Tenant, body: OrdersWanted) -> Response:
    """By the order's id. Only the back office calls, for an admin of that tenant."""
    return await export_page(services(request).db, orders, body, tenant=tenant, columns=_COLUMNS)
