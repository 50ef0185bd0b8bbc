"""Stock moved by hand, and what was moved."""

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Header, Request, Response

from chassis.edge.auth import caller_of
from chassis.edge.routes import Routes, refused
from chassis.paging import Cursor, Limit, decode_cursor, next_cursor
from chassis.problems import Invalid
from order.api.answers import JSON
from order.api.products import Sku
from order.domain import Shape
from order.idempotency import MAX_KEY
from order.product_requests import StockChange
from order.products import Products
from order.services import services
from order.stock_moves import StockMove, StockMoves, WantedMove

_NO_PRODUCT = {404: "product-not-found", 422: "invalid-request", 503: "database-unavailable"}
_MADE: dict[int | str, dict[str, Any]] = {
    201: {
        "headers": {
            "Idempotency-Replayed": {
                "description": "`true` when the key's move stood there already",
                "schema": {"type": "string", "enum": ["true"]},
            }
        }
    }
}

router = Routes(prefix="/api/v1/catalog/products", tags=["catalog"])


class StockMovePage(Shape):
    """`available` is how much there is now."""

    available: int
    items: list[StockMove]
    next: str | None


@router.post(
    "/{sku}/stock",
    status_code=201,
    response_model=StockMove,
    responses=_MADE | refused(_NO_PRODUCT | {409: "stock-out-of-range", 422: "invalid-request, idempotency-mismatch"}),
)
async def move_stock(
    request: Request,
    sku: Sku,
    body: StockChange,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=MAX_KEY)] = None,
) -> Response:
    """`delta` more, or fewer, never below zero. With a key it is moved once, however often it is asked for."""
    made, caller = services(request), caller_of(request)
    wanted = WantedMove(
        sku=sku,
        variation=body.variation,
        delta=body.delta,
        reason=body.reason,
        actor=caller.subject,
        key=idempotency_key,
    )

    def work(conn: sa.Connection) -> tuple[StockMove, bool]:
        product = Products(conn, caller.tenant, made.shipped).get(sku)
        if wanted.variation not in {None, *(variation.name for variation in product.variations)}:
            raise Invalid("/variation", "The product has no such variation.")
        return StockMoves(conn, caller.tenant).make(wanted, first_stock=made.shipped.stock.get(sku, 0))

    move, known = await made.db.write(work)
    headers = {"Idempotency-Replayed": "true"} if known else None
    return Response(move.model_dump_json(by_alias=True), 201, headers=headers, media_type=JSON)


@router.get("/{sku}/stock", response_model=StockMovePage, responses=refused(_NO_PRODUCT))
async def list_stock_moves(
    request: Request,
    sku: Sku,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """Newest first; what orders took and gave back is the orders' own record."""
    made, tenant = services(request), caller_of(request).tenant
    before = decode_cursor(cursor) if cursor is not None else None

    def look(conn: sa.Connection) -> tuple[int, list[StockMove]]:
        Products(conn, tenant, made.shipped).get(sku)
        moves = StockMoves(conn, tenant)
        available = moves.available(sku)
        first = made.shipped.stock.get(sku, 0)
        return first if available is None else available, moves.page(sku, before=before, limit=limit + 1)

    available, found = await made.db.read(look)
    following = next_cursor(found, limit, lambda row: row.id)
    page = StockMovePage(available=available, items=found[:limit], next=following)
    return Response(page.model_dump_json(by_alias=True), media_type=JSON)
