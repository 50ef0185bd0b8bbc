"""All settings of all tenants, for the other services: what only our own sidecar is told."""

from fastapi import Request

from backoffice.services import services
from chassis.edge.routes import Routes, refused
from chassis.flags.snapshot import SettingTold, SnapshotPage
from chassis.wire import RequestBody, example


class SnapshotRequest(RequestBody, json_schema_extra=example(after=["acme", "Features:new-menu"])):
    """`after` is `next` of the page before."""

    after: tuple[str, str] | None = None


router = Routes(tags=["invoked"], responses=refused({422: "invalid-request", 503: "database-unavailable"}))


@router.post("/settings-snapshot")
async def get_settings_snapshot(request: Request, body: SnapshotRequest) -> SnapshotPage:
    """By tenant and key, deleted ones without a value; and what stands in for what is not set."""
    made = services(request)
    found, following = await made.stored_settings.snapshot(body.after)
    items = tuple(SettingTold(**setting._asdict()) for setting in found)
    return SnapshotPage(items=items, next=following, configured=made.settings.configured)
