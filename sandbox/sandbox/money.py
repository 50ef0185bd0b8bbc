"""Amounts as payment providers take them: a JSON number in major units, with just the currency's own decimals."""

from decimal import Decimal
from functools import cache
from typing import Annotated

from iso4217 import Currency as Iso4217
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator


@cache
def exponent_of(currency: str) -> int | None:
    """Decimal places by ISO 4217: JPY 0, USD 2, KWD 3. None where there is no such currency, or it has none."""
    try:
        return Iso4217(currency).exponent
    except ValueError:
        return None


def _with_exponent(currency: str) -> str:
    if exponent_of(currency) is None:
        raise ValueError("not a currency with decimal places")
    return currency


def _number(value: object) -> object:
    # `vendor.read` reads numbers as they were written: 9.00 is Decimal("9.00"), and JSON's true would pass as 1.
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("an amount is a JSON number")  # noqa: TRY004  # pydantic reports only a ValueError as invalid
    return value


Amount = Annotated[Decimal, BeforeValidator(_number), Field(gt=0, max_digits=16)]
Currency = Annotated[str, AfterValidator(_with_exponent)]


def fits(amount: Decimal, currency: str) -> bool:
    """Whether it is written with the currency's decimals, no more and no fewer."""
    return -int(amount.as_tuple().exponent) == exponent_of(currency)


class Priced(BaseModel):
    """A body with an amount in its currency."""

    model_config = ConfigDict(frozen=True)

    currency: Currency
    amount: Amount

    @field_validator("amount")
    @classmethod
    def _exact(cls, amount: Decimal, known: ValidationInfo) -> Decimal:
        currency = known.data.get("currency")
        if currency and not fits(amount, currency):
            raise ValueError(f"an amount of {currency} has {exponent_of(currency)} decimal places")
        return amount


class RefundBody(BaseModel):
    """How much a refund gives back, in its charge's currency."""

    model_config = ConfigDict(frozen=True)

    amount: Amount
