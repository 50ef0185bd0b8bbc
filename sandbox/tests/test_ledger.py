"""A provider's books: the rules of keys and money, without HTTP."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandbox.ledger import Books, Charge, Refund, Refusal
from sandbox.lists import Listed
from sandbox.records import Journal, utc_now
from stack.examples import examples

DAY = timedelta(hours=24)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def open_books(journal: Journal, ledger: Listed, clock: Callable[[], datetime] = utc_now) -> Books:
    return Books(provider="a", journal=journal, ledger=ledger, key_ttl=DAY, clock=clock)


def shown(ledger: Listed) -> list[Any]:
    return [json.loads(entry) for entry in ledger.page(newest_first=False).entries]


def charge(books: Books, *, key: str | None = "k", amount: str = "9.00") -> Charge | Refusal:
    return books.charge(
        key=key, fingerprint=amount, order_id="o", amount=Decimal(amount), currency="USD", declined=None
    )


def test_a_key_is_forgotten_after_its_day_and_the_ledger_is_not(tmp_path: Path):
    clock, ledger = Clock(), Listed()
    books = open_books(Journal(tmp_path / "a"), ledger, clock)
    first = charge(books)
    assert isinstance(first, Charge)
    refund = books.refund(key="r", fingerprint="", transaction_id=first.transaction_id, amount=Decimal(1))

    clock.now += DAY - timedelta(seconds=1)
    assert (books.charge_under("k"), books.refund_under("r")) == (first, refund)

    clock.now += timedelta(seconds=1)
    assert (books.charge_under("k"), books.refund_under("r")) == (None, None)
    assert isinstance(charge(books, amount="5.00"), Charge)
    assert [entry["amount"] for entry in shown(ledger)] == ["9.00", "1", "5.00"]


def test_books_opened_again_say_the_same(tmp_path: Path):
    journal, before, after = Journal(tmp_path / "a"), Listed(), Listed()
    books = open_books(journal, before)
    paid = charge(books)
    assert isinstance(paid, Charge)
    refund = books.refund(key="r", fingerprint="", transaction_id=paid.transaction_id, amount=Decimal("8.99"))
    journal.close()

    again = open_books(Journal(tmp_path / "a"), after)

    assert shown(after) == shown(before) != []
    assert len(again) == len(books) == 2
    assert (charge(again), again.refund_under("r")) == (paid, refund)
    assert charge(again, amount="1.00") is Refusal.KEY_REUSED
    late = again.refund(key=None, fingerprint="", transaction_id=paid.transaction_id, amount=Decimal("0.02"))
    assert late is Refusal.EXCEEDS_CHARGE


@examples(10)
@given(st.lists(st.decimals(min_value="0.01", max_value="9.00", places=2), max_size=12))
def test_however_it_is_split_no_more_is_given_back_than_was_taken(tmp_path: Path, amounts: list[Decimal]):
    journal = Journal(tmp_path / "a")
    journal.forget()
    books = open_books(journal, Listed())
    paid = charge(books)
    assert isinstance(paid, Charge)

    given_back = Decimal(0)
    for amount in amounts:
        outcome = books.refund(key=None, fingerprint="", transaction_id=paid.transaction_id, amount=amount)
        assert isinstance(outcome, Refund) == (given_back + amount <= paid.amount)
        given_back += amount if isinstance(outcome, Refund) else 0

    assert books.refunded(paid.transaction_id) == given_back
    journal.close()
