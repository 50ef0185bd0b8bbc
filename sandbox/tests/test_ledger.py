"""A provider's books: the rules of keys and money, without HTTP."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.ledger import Books, Charge, Refund, Refusal
from sandbox.records import Journal

DAY = timedelta(hours=24)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def charge(books: Books, *, key: str | None = "k", amount: str = "9.00") -> Charge | Refusal:
    return books.charge(
        key=key, fingerprint=amount, order_id="o", amount=Decimal(amount), currency="USD", declined=None
    )


def test_a_key_is_forgotten_after_its_day_and_the_ledger_is_not(tmp_path: Path):
    clock = Clock()
    books = Books(provider="a", journal=Journal(tmp_path / "a"), key_ttl=DAY, clock=clock)
    first = charge(books)
    assert isinstance(first, Charge)
    refund = books.refund(key="r", fingerprint="", transaction_id=first.transaction_id, amount=Decimal(1))

    clock.now += DAY - timedelta(seconds=1)
    assert (books.charge_under("k"), books.refund_under("r")) == (first, refund)

    clock.now += timedelta(seconds=1)
    assert (books.charge_under("k"), books.refund_under("r")) == (None, None)
    assert isinstance(charge(books, amount="5.00"), Charge)
    assert [entry["amount"] for entry in books.entries()] == ["9.00", "1", "5.00"]


def test_books_opened_again_say_the_same(tmp_path: Path):
    journal = Journal(tmp_path / "a")
    books = Books(provider="a", journal=journal, key_ttl=DAY)
    paid = charge(books)
    assert isinstance(paid, Charge)
    refund = books.refund(key="r", fingerprint="", transaction_id=paid.transaction_id, amount=Decimal("8.99"))
    before = [*books.entries()]
    journal.close()

    again = Books(provider="a", journal=Journal(tmp_path / "a"), key_ttl=DAY)

    assert [*again.entries()] == before
    assert (charge(again), again.refund_under("r")) == (paid, refund)
    assert charge(again, amount="1.00") is Refusal.KEY_REUSED
    late = again.refund(key=None, fingerprint="", transaction_id=paid.transaction_id, amount=Decimal("0.02"))
    assert late is Refusal.EXCEEDS_CHARGE


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.decimals(min_value="0.01", max_value="9.00", places=2), max_size=12))
def test_however_it_is_split_no_more_is_given_back_than_was_taken(tmp_path: Path, amounts: list[Decimal]):
    journal = Journal(tmp_path / "a")
    journal.forget()
    books = Books(provider="a", journal=journal, key_ttl=DAY)
    paid = charge(books)
    assert isinstance(paid, Charge)

    given_back = Decimal(0)
    for amount in amounts:
        outcome = books.refund(key=None, fingerprint="", transaction_id=paid.transaction_id, amount=amount)
        assert isinstance(outcome, Refund) == (given_back + amount <= paid.amount)
        given_back += amount if isinstance(outcome, Refund) else 0

    assert books.refunded(paid.transaction_id) == given_back
    journal.close()
