"""Feature flags, as the caller's programs ask for them."""

from fastapi import Request

from backoffice.services import services
from backoffice.setting_values import Feature
from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.wire import Wire


class FeatureView(Wire):
    name: str
    enabled: bool


router = Routes(prefix="/api/v1/features", tags=["settings"], responses=refused({422: "invalid-request"}))


@router.get("/{name}")
async def get_feature(request: Request, name: Feature) -> FeatureView:
    """Whether it is on for the caller: `Features:{name}` of the caller's tenant, and off where that is not set."""
    caller = caller_of(request)
    enabled = services(request).flags.is_on(name, tenant=caller.tenant, targeting_key=caller.subject)
    return FeatureView(name=name, enabled=enabled)
