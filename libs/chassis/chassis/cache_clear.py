"""A service's caches by hand, for whoever has changed records behind the service's back."""

from collections.abc import Sequence
from typing import Annotated, cast

from fastapi import Query, Request

from chassis.cache import Cache
from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.wire import Wire

Pattern = Annotated[
    str,
    Query(
        max_length=100,
        pattern=r"^[^*\x00-\x1f\x7f]*\*$",
        description="what the keys begin with, and a `*`: `templates:Account:*`; all that the tenant has: `*`",
    ),
]


class Cleared(Wire):
    """The caches that were told, by name: none where a service has none."""

    pattern: str
    caches: list[str]


router = Routes(prefix="/api/v1", tags=["cache"])


@router.post("/cache/clear", responses=refused({422: "invalid-request", 503: "database-unavailable"}))
async def clear_cache(request: Request, pattern: Pattern = "*") -> Cleared:
    """What the tenant's keys of this pattern stand for is asked of the database again, by every replica in a moment."""
    tenant = caller_of(request).tenant
    caches = cast("Sequence[Cache]", request.app.state.caches)
    for cache in caches:
        await cache.invalidate_now(f"{tenant}:{pattern.removesuffix('*')}", tenant=tenant)
    return Cleared(pattern=pattern, caches=[cache.name for cache in caches])
