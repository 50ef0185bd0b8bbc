"""What can be ordered, and for how much: what every tenant starts from, and a tenant's own products over it."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from chassis.problems import Invalid
from order.domain import Item, Money, Shape
from order.requests import ItemRequest, OrderRequest

MOST = 1_000_000_000  # on stock of one product


class Variation(Shape):
    name: str
    price: Money


class Product(Shape):
    """`version` is 0 as it ships, and grows with every change."""

    sku: str
    name: str
    featured: bool = False
    sort_order: int = 0
    version: int = 0
    variations: list[Variation]


class CatalogPage(Shape):
    items: list[Product]


class OwnProducts(Shape):
    """What a tenant has changed: each takes the place of the shipped one of its sku as a whole, or takes it away."""

    products: list[Product]
    deleted: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """By sku; `stock` is how much of each there is at first."""

    products: Mapping[str, Product]
    stock: Mapping[str, int]


class Catalog:
    """A tenant's, by `sortOrder`, then name. The first variation of a product is the one meant when none is named."""

    def __init__(self, shipped: Shipped, own: OwnProducts) -> None:
        known = {**shipped.products, **{product.sku: product for product in own.products}}
        shown = [product for sku, product in known.items() if sku not in own.deleted]
        shown.sort(key=lambda product: (product.sort_order, product.name, product.sku))
        self._products = {product.sku: product for product in shown}
        self._stock = shipped.stock

    @cached_property
    def page(self) -> str:
        """As it is answered."""
        return _page(list(self._products.values()))

    @cached_property
    def featured(self) -> str:
        return _page([product for product in self._products.values() if product.featured])

    def first_stock(self, sku: str) -> int:
        return self._stock.get(sku, 0)

    def price(self, request: OrderRequest) -> tuple[list[Item], Money]:
        """The order's items at our prices, and their total. Raises Invalid, naming the field."""
        items = [self._item(index, wanted, request.currency) for index, wanted in enumerate(request.items)]
        total = sum((item.unit_price.times(item.quantity).amount for item in items), Decimal(0))
        return items, Money(amount=total, currency=request.currency)

    def _item(self, index: int, wanted: ItemRequest, currency: str) -> Item:
        if (product := self._products.get(wanted.sku)) is None:
            raise Invalid(f"/items/{index}/sku", "There is no such product.")
        name = wanted.variation or product.variations[0].name
        variation = next((known for known in product.variations if known.name == name), None)
        if variation is None:
            raise Invalid(f"/items/{index}/variation", "The product has no such variation.")
        if variation.price.currency != currency:
            raise Invalid("/currency", f"This catalog is priced in {variation.price.currency}.")
        return Item(
            sku=product.sku, name=product.name, variation=name, quantity=wanted.quantity, unit_price=variation.price
        )


def _page(products: list[Product]) -> str:
    return CatalogPage(items=products).model_dump_json(by_alias=True)


class _StockedProduct(Product):
    stock: Annotated[int, Field(ge=0, le=MOST)]


def load_shipped(file: Path | None) -> Shipped:
    """What is shipped, or stands in `file`."""
    file = file or Path(__file__).with_name("catalog.json")
    found = TypeAdapter(list[_StockedProduct]).validate_json(file.read_bytes())
    return Shipped(
        products={one.sku: Product.model_validate(one.model_dump(exclude={"stock"})) for one in found},
        stock={one.sku: one.stock for one in found},
    )
