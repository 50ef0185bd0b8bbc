"""Payments as the back office exports them: what the API shows staff, in columns."""

from typing import Literal

from fastapi import Request, Response

from chassis.edge.auth import Tenant
from chassis.edge.routes import Routes, refused
from chassis.export_pages import ExportColumn, ExportPage, ExportPageWanted, export_page
from chassis.wire import example
from payment.currencies import in_major_units
from payment.domain import Status
from payment.services import services
from payment.tables import payments

_COLUMNS = (
    ExportColumn(payments.c.id),
    ExportColumn(payments.c.order_id),
    ExportColumn(payments.c.status),
    ExportColumn(payments.c.amount, number=True, cell=lambda row: str(in_major_units(row.amount, row.currency))),
    ExportColumn(payments.c.refunded, number=True, cell=lambda row: str(in_major_units(row.refunded, row.currency))),
    ExportColumn(payments.c.currency),
    ExportColumn(payments.c.provider),
    ExportColumn(payments.c.description),
    ExportColumn(payments.c.transaction_id),
    ExportColumn(payments.c.reason),
    ExportColumn(payments.c.created_at),
    ExportColumn(payments.c.processed_at),
    ExportColumn(payments.c.version, number=True),
)


class PaymentsWanted(
    ExportPageWanted[Status], json_schema_extra=example(kind="payments", filters={"status": "declined"})
):
    kind: Literal["payments"]


router = Routes(tags=["invoked"], responses=refused({422: "invalid-request", 503: "database-unavailable"}))


@router.post("/export-page", response_model=ExportPage)
async def export_payments(request: Request, tenant: Tenant, body: PaymentsWanted) -> Response:
    """By the payment's id. Only the back office calls, for an admin of that tenant."""
    return await export_page(services(request).db, payments, body, tenant=tenant, columns=_COLUMNS)
