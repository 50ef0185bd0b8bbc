"""An admin's products: made, changed as a whole, and taken away. What was ordered before keeps its price."""

import re
from typing import Annotated

from fastapi import Request, Response
from pydantic import AfterValidator

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from order.api.answers import JSON
from order.catalog import Product
from order.domain import ProductNotFound
from order.product_requests import SKU, NewProduct, ProductChange
from order.services import services

router = Routes(prefix="/api/v1/catalog/products", tags=["catalog"])

_SKU = re.compile(SKU)
_NO_PRODUCT = {404: "product-not-found", 503: "database-unavailable"}


def _known_sku(text: str) -> str:
    """What can be no sku of ours names no product, and is not asked of a database."""
    if not _SKU.fullmatch(text):
        raise ProductNotFound
    return text


Sku = Annotated[str, AfterValidator(_known_sku)]


@router.post(
    "",
    status_code=201,
    response_model=Product,
    responses=refused({409: "product-exists", 422: "invalid-request", 503: "database-unavailable"}),
)
async def create_product(request: Request, body: NewProduct) -> Response:
    """A new one, of which there is nothing on stock yet. A sku that was deleted can be had again."""
    caller = caller_of(request)
    product = body.to_product(body.sku, version=0)
    made = await services(request).catalogs.change(
        caller.tenant, lambda products: products.create(product, by=caller.subject)
    )
    return _shown(made, 201)


@router.put(
    "/{sku}",
    response_model=Product,
    responses=refused(_NO_PRODUCT | {409: "concurrency-conflict", 422: "invalid-request"}),
)
async def replace_product(request: Request, sku: Sku, body: ProductChange) -> Response:
    """As a whole. From the answer on it holds here, and at every replica within a moment."""
    caller = caller_of(request)
    product = body.to_product(sku, version=body.version)
    made = await services(request).catalogs.change(
        caller.tenant, lambda products: products.replace(product, by=caller.subject)
    )
    return _shown(made)


@router.delete("/{sku}", status_code=204, response_class=Response, responses=refused(_NO_PRODUCT))
async def delete_product(request: Request, sku: Sku) -> Response:
    """It is shown and sold no more; its orders, stock and stock moves stay."""
    caller = caller_of(request)
    await services(request).catalogs.change(caller.tenant, lambda products: products.delete(sku, by=caller.subject))
    return Response(status_code=204)


def _shown(product: Product, status: int = 200) -> Response:
    return Response(product.model_dump_json(by_alias=True), status, media_type=JSON)
