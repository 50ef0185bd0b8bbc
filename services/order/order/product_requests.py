"""What an admin asks for of products and stock."""

from decimal import Decimal
from functools import cache
from typing import Annotated, Any

import iso4217
from pydantic import AfterValidator, Field, StringConstraints

from chassis.problems import Invalid
from chassis.wire import RequestBody, example
from order.catalog import Product, Variation
from order.domain import Currency, Money
from order.requests import LINE, Name, visible

SKU = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_MOST = 1_000_000  # of one move


class PriceRequest(RequestBody):
    """More than nothing, with no more decimals than the currency has."""

    amount: Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,4})?$", examples=["4.50"])]
    currency: Currency = "USD"

    def to_money(self, pointer: str) -> Money:
        """Raises Invalid."""
        if (exponent := _exponent_of(self.currency)) is None:
            raise Invalid(f"{pointer}/currency", "There is no such currency.")
        amount = Decimal(self.amount)
        exact = amount.quantize(Decimal(1).scaleb(-exponent))
        if exact != amount or not exact:
            raise Invalid(f"{pointer}/amount", f"It is nothing, or {self.currency} has fewer decimals.")
        return Money(amount=exact, currency=self.currency)


class VariationRequest(RequestBody):
    name: Annotated[
        str,
        StringConstraints(min_length=1, max_length=64, pattern=LINE),
        AfterValidator(visible),
        Field(examples=["vanilla"]),
    ]
    price: PriceRequest


class _ProductRequest(RequestBody):
    name: Name
    featured: bool = False
    sort_order: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    variations: Annotated[list[VariationRequest], Field(min_length=1, max_length=50)]

    def to_product(self, sku: str, *, version: int) -> Product:
        """Raises Invalid."""
        names = [variation.name for variation in self.variations]
        if twice := [index for index, name in enumerate(names) if name in names[:index]]:
            raise Invalid(f"/variations/{twice[0]}/name", "There are two variations of this name.")
        variations = [
            Variation(name=known.name, price=known.price.to_money(f"/variations/{index}/price"))
            for index, known in enumerate(self.variations)
        ]
        return Product(
            sku=sku,
            name=self.name,
            featured=self.featured,
            sort_order=self.sort_order,
            version=version,
            variations=variations,
        )


_PRODUCT: dict[str, Any] = {
    "name": "Flat white",
    "featured": True,
    "sortOrder": 10,
    "variations": [{"name": "regular", "price": {"amount": "4.20", "currency": "USD"}}],
}


class NewProduct(_ProductRequest, json_schema_extra=example(sku="flat-white", **_PRODUCT)):
    sku: Annotated[str, Field(pattern=SKU, examples=["flat-white"])]


class ProductChange(_ProductRequest, json_schema_extra=example(version=0, **_PRODUCT)):
    version: Annotated[int, Field(strict=True, ge=0, lt=2**31 - 1, description="the one that was read; 0 as it ships")]


def _something(delta: int) -> int:
    if not delta:
        raise ValueError("it moves nothing")
    return delta


class StockChange(RequestBody, json_schema_extra=example(delta=24, reason="Delivery of Monday")):
    """`variation` is written down with the move; stock is kept for all variations of a product together."""

    variation: Annotated[str, Field(max_length=64, examples=["vanilla"])] | None = None
    delta: Annotated[int, Field(strict=True, ge=-_MOST, le=_MOST, examples=[24]), AfterValidator(_something)]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=LINE), AfterValidator(visible)]


@cache
def _exponent_of(currency: str) -> int | None:
    """Decimal places by ISO 4217; None where there is no such currency, or it has none."""
    try:
        return iso4217.Currency(currency).exponent
    except ValueError:
        return None
