"""Prices are ours, and what the catalog doesn't have is refused."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from chassis.problems import Invalid
from order.catalog import Catalog, OwnProducts, Shipped
from order.domain import Money
from order.requests import OrderRequest

Body = Callable[..., dict[str, Any]]


@pytest.fixture
def catalog(shipped: Shipped) -> Catalog:
    """As it ships."""
    return Catalog(shipped, OwnProducts(products=[], deleted=frozenset()))


def request(wanted: Body, *items: dict[str, Any], currency: str = "USD") -> OrderRequest:
    return OrderRequest.model_validate(wanted(items=list(items), currency=currency))


def usd(amount: str) -> Money:
    return Money(amount=Decimal(amount), currency="USD")


def test_a_total_is_the_sum_of_our_prices_to_the_cent(catalog: Catalog, wanted: Body):
    items, total = catalog.price(
        request(wanted, {"sku": "latte", "variation": "vanilla", "quantity": 3}, {"sku": "tea", "quantity": 1})
    )

    assert total == usd("16.50")
    assert [(item.sku, item.variation, item.unit_price) for item in items] == [
        ("latte", "vanilla", usd("4.50")),
        ("tea", "black", usd("3.00")),
    ]


def test_the_first_variation_is_meant_when_none_is_named(catalog: Catalog, wanted: Body):
    [item], total = catalog.price(request(wanted, {"sku": "latte", "quantity": 1}))

    assert (item.variation, total) == ("plain", usd("4.00"))


@pytest.mark.parametrize(
    ("items", "currency", "pointer"),
    [
        ([{"sku": "tea", "quantity": 1}, {"sku": "unicorn", "quantity": 1}], "USD", "/items/1/sku"),
        ([{"sku": "latte", "variation": "garlic", "quantity": 1}], "USD", "/items/0/variation"),
        ([{"sku": "latte", "quantity": 1}], "EUR", "/currency"),
    ],
)
def test_what_the_catalog_does_not_have_is_refused_by_name(
    catalog: Catalog, wanted: Body, items: list[dict[str, Any]], currency: str, pointer: str
):
    with pytest.raises(Invalid) as refused:
        catalog.price(request(wanted, *items, currency=currency))

    assert refused.value.pointer == pointer
