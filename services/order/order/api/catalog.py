"""What can be ordered."""

from fastapi import Request, Response

from chassis.edge.routes import Routes
from order.api.answers import JSON
from order.catalog import Product
from order.domain import Shape
from order.services import services

router = Routes(prefix="/api/v1", tags=["catalog"])


class CatalogPage(Shape):
    items: list[Product]


@router.get("/catalog", response_model=CatalogPage)
async def get_catalog(request: Request) -> Response:
    page = CatalogPage(items=services(request).catalog.products)
    return Response(page.model_dump_json(by_alias=True), media_type=JSON)
