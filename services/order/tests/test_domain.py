"""The life cycle's table, and what an order is made of."""

from decimal import Decimal

from order.domain import MOVES, STAFF_MOVES, Item, Money, Status, moves_into, quantities


def usd(amount: str) -> Money:
    return Money(amount=Decimal(amount), currency="USD")


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
