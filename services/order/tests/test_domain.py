"""Prices, the life cycle's table, and what an order may look like."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from order.domain import (
    MOVES,
    STAFF_MOVES,
    Catalog,
    Item,
    Money,
    NotAcceptable,
    OrderRequest,
    Status,
    moves_into,
    quantities,
)

Body = Callable[..., dict[str, Any]]


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
    with pytest.raises(NotAcceptable) as refused:
        catalog.price(request(wanted, *items, currency=currency))

    assert [error["pointer"] for error in refused.value.members["errors"]] == [pointer]


def test_quantities_are_added_up_by_sku_and_sorted():
    def item(sku: str, quantity: int) -> Item:
        return Item(sku=sku, name=sku, quantity=quantity, unit_price=usd("1.00"))

    assert quantities([item("tea", 1), item("latte", 2), item("tea", 3)]) == [("latte", 2), ("tea", 4)]


def test_money_is_a_decimal_string_outside():
    assert usd("9.00").model_dump(mode="json") == {"amount": "9.00", "currency": "USD"}


def test_the_life_cycle_is_the_contracts_and_nothing_else():
    moves = {(start.value, end.value) for start, ends in MOVES.items() for end in ends}

    assert set(MOVES) == set(Status)
    assert moves == {
        ("pending_payment", "confirmed"),
        ("pending_payment", "payment_failed"),
        ("pending_payment", "cancelled"),
        ("confirmed", "preparation"),
        ("confirmed", "cancelled"),
        ("preparation", "ready"),
        ("ready", "delivered"),
        ("ready", "shipped"),
        ("shipped", "delivered"),
    }


def test_staff_can_reach_neither_a_paid_nor_a_cancelled_order_by_a_status():
    assert {move.value for move in STAFF_MOVES} == {"preparation", "ready", "delivered"}
    assert set(moves_into(Status.CANCELLED)) == {Status.PENDING_PAYMENT, Status.CONFIRMED}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Ada\r\nBcc: all@example.com"},
        {"name": ""},
        {"email": "not an address"},
        {"email": "ada@example.com\nBcc: x@example.com"},
        {"phone": "12"},
        {"id": "a b"},
        {"locale": "../../etc"},
    ],
)
def test_a_customer_that_could_forge_a_header_or_a_path_is_refused(wanted: Body, change: dict[str, str]):
    body = wanted()
    body["customer"] = body["customer"] | change

    with pytest.raises(ValidationError):
        OrderRequest.model_validate(body)


def test_an_emoji_in_a_name_is_fine(wanted: Body):
    body = wanted()
    body["customer"] = body["customer"] | {"name": "Ada ☕🦄"}

    assert OrderRequest.model_validate(body).customer.name == "Ada ☕🦄"


@pytest.mark.parametrize("token", ["4242424242424242", "tok 1", "t", "tok_\nok"])
def test_a_card_number_is_not_a_token(wanted: Body, token: str):
    with pytest.raises(ValidationError):
        OrderRequest.model_validate(wanted(token=token))
