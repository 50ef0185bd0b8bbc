"""What can be ordered: the caller's tenant's catalog; to a guest, who shows no token, that of `ORDER_PUBLIC_TENANT`."""

from fastapi import Request, Response

from chassis.edge.auth import caller_if_known
from chassis.edge.routes import Routes, refused
from order.api.answers import JSON
from order.catalog import Catalog, CatalogPage
from order.services import services

router = Routes(prefix="/api/v1", tags=["catalog"], responses=refused({503: "database-unavailable"}))


@router.get("/catalog", response_model=CatalogPage)
async def get_catalog(request: Request) -> Response:
    """By `sortOrder`, then name."""
    return Response((await _catalog(request)).page, media_type=JSON)


@router.get("/catalog/featured", response_model=CatalogPage)
async def get_featured_products(request: Request) -> Response:
    """The featured ones of these."""
    return Response((await _catalog(request)).featured, media_type=JSON)


async def _catalog(request: Request) -> Catalog:
    made, caller = services(request), caller_if_known(request)
    return await made.catalogs.of(made.settings.public_tenant if caller is None else caller.tenant)
