"""What each hour came to, and the last minutes."""

from fastapi import Request

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.paging import Cursor, Limit, decode_keys, encode_keys, moment
from order.current_metrics import CurrentMetrics, current_metrics
from order.domain import Shape
from order.hourly_metrics import HourlyMetrics
from order.services import services

router = Routes(prefix="/api/v1/metrics", tags=["metrics"])


class HourlyPage(Shape):
    items: list[HourlyMetrics]
    next: str | None


@router.get("/hourly", responses=refused({422: "invalid-request"}))
async def list_hourly_metrics(
    request: Request,
    limit: Limit = 24,
    cursor: Cursor = None,
) -> HourlyPage:
    """Newest first; hours in which nothing was ordered are left out."""
    before = moment(*decode_keys(cursor, 1)) if cursor is not None else None
    found = await services(request).collector.page(caller_of(request).tenant, before=before, limit=limit + 1)
    following = encode_keys(found[limit - 1].hour.isoformat()) if len(found) > limit else None
    return HourlyPage(items=found[:limit], next=following)


@router.get("/now")
async def get_current_metrics(request: Request) -> CurrentMetrics:
    """Orders a minute and how long their steps took, of the last 15 minutes."""
    return await current_metrics(services(request).db, caller_of(request).tenant)
