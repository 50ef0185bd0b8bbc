"""Notifications as the back office exports them: what the API shows staff, but for what was written in them."""

from typing import Literal

from fastapi import Request, Response

from chassis.edge.auth import Tenant
from chassis.edge.routes import Routes, refused
from chassis.export_pages import ExportColumn, ExportPage, ExportPageWanted, export_page
from chassis.wire import example
from notification.domain import Status
from notification.services import services
from notification.tables import notifications

_COLUMNS = (
    ExportColumn(notifications.c.id),
    ExportColumn(notifications.c.event_id),
    ExportColumn(notifications.c.recipient_id),
    ExportColumn(notifications.c.channel),
    ExportColumn(notifications.c.category),
    ExportColumn(notifications.c.template),
    ExportColumn(notifications.c.locale),
    ExportColumn(notifications.c.status),
    ExportColumn(notifications.c.subject),
    ExportColumn(notifications.c.subject_id),
    ExportColumn(notifications.c.attempts, number=True),
    ExportColumn(notifications.c.error),
    ExportColumn(notifications.c.provider),
    ExportColumn(notifications.c.segments, number=True),
    ExportColumn(notifications.c.cost),
    ExportColumn(notifications.c.created_at),
    ExportColumn(notifications.c.sent_at),
    ExportColumn(notifications.c.delivered_at),
)


class NotificationsWanted(
    ExportPageWanted[Status], json_schema_extra=example(kind="notifications", filters={"status": "failed"})
):
    kind: Literal["notifications"]


router = Routes(tags=["invoked"], responses=refused({422: "invalid-request", 503: "database-unavailable"}))


@router.post("/export-page", response_model=ExportPage)
async def export_notifications(request: Request, tenant: Tenant, body: NotificationsWanted) -> Response:
    """By the notification's id. Only the back office calls, for an admin of that tenant."""
    return await export_page(services(request).db, notifications, body, tenant=tenant, columns=_COLUMNS)
