"""ISO 4217's exponents, from the `iso4217` package (the published table)."""

from decimal import Decimal
from functools import cache

from iso4217 import Currency

from payment.domain import major_units


@cache
def exponent_of(currency: str) -> int | None:
    """Decimal places of the currency: JPY 0, USD 2, KWD 3. None where there is no such currency, or it has none."""
    try:
        return Currency(currency).exponent
    except ValueError:
        return None


def in_major_units(amount: int, currency: str) -> Decimal:
    """With just the currency's decimals: 900 USD is 9.00, 900 JPY is 900."""
    return major_units(amount, exponent_of(currency) or 0)
