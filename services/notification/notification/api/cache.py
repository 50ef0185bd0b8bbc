"""The cache by hand, for whoever has changed records behind the service's back."""

from typing import Annotated

from fastapi import Query, Request, Response

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from notification.services import services

_KINDS = ("routes", "templates")

Pattern = Annotated[
    str,
    Query(
        max_length=100,
        pattern=r"^(\*|(routes|templates):[^*\x00-\x1f\x7f]*\*?)$",
        description="what the keys begin with: `templates:Account:*`, `routes:orders:*`; all that the tenant has: `*`",
    ),
]


router = Routes(
    prefix="/api/v1/cache",
    tags=["cache"],
    responses=refused({422: "invalid-request", 503: "database-unavailable"}),
)


@router.delete("", status_code=204, response_class=Response)
async def clear_cache(request: Request, pattern: Pattern = "*") -> Response:
    """What the tenant's routes or templates are is asked of the database again, by every replica in a moment."""
    caller = caller_of(request)
    cache = services(request).cache
    kind, _, rest = pattern.removesuffix("*").partition(":")
    for cached in [kind] if kind else _KINDS:
        await cache.invalidate_now(f"{cached}:{caller.tenant}:{rest}", tenant=caller.tenant)
    return Response(status_code=204)
