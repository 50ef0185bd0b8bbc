"""What can be ordered, and for how much."""

from collections.abc import Iterable
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from chassis.problems import Invalid
from order.domain import Item, Money, Shape
from order.requests import ItemRequest, OrderRequest


class Variation(Shape):
    name: str
    price: Money


class Product(Shape):
    sku: str
    name: str
    featured: bool = False
    variations: list[Variation]


class StockedProduct(Product):
    """A catalog entry with its first stock, which every tenant starts from."""

    stock: Annotated[int, Field(ge=0)]


class Catalog:
    """The first variation of a product is the one meant when none is named."""

    def __init__(self, products: Iterable[StockedProduct]) -> None:
        self._products = {product.sku: product for product in products}

    @cached_property
    def products(self) -> list[Product]:
        """As they are shown: without our stock."""
        return [Product.model_validate(product.model_dump(exclude={"stock"})) for product in self._products.values()]

    def first_stock(self, sku: str) -> int:
        return self._products[sku].stock

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


def load_catalog(file: Path | None) -> Catalog:
    """The catalog that is shipped, or the one in `file`."""
    file = file or Path(__file__).with_name("catalog.json")
    return Catalog(TypeAdapter(list[StockedProduct]).validate_json(file.read_bytes()))
