"""INN8's fields and ours: one table for each entity, to be held against contracts/inn8.json.

A conversion takes the value as it came, None where there is none, and raises ValueError in words that tell nothing of
it. An item that one of them refuses goes to the quarantine alone.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, cast

import orjson
import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat

from chassis.texts import one_line
from datasource.domain import AccountType, ClientStatus, Entity, PortfolioStatus, SecurityType, TransactionType

_ID = re.compile(r"[\x21-\x7e]{1,64}")  # as wide as its column; a client's is a recipient's, and stands in headers
_DECIMAL = re.compile(r"-?\d{1,15}(\.\d{1,6})?", re.ASCII)
_NOT_A_DIGIT = re.compile(r"\D", re.ASCII)
_NORTH_AMERICAN = re.compile(r"(?:\+?1)?([2-9]\d{2}[2-9]\d{6})", re.ASCII)
_REGION = "US"  # where a number without + is from

Conversion = Callable[[Any], Any]


class Invalid(ValueError):
    """An item can't be taken: which of its members, and why."""


class Record(NamedTuple):
    """An item of INN8's as we keep it: `values` by column. Equal fingerprints are equal values."""

    external_id: str
    updated_at: datetime
    values: dict[str, Any]
    fingerprint: str


class Mapped(NamedTuple):
    """INN8's field, our column, and how the one becomes the other."""

    field: str
    column: str
    read: Conversion


# --- conversions ---


def text(longest: int) -> Conversion:
    """Some text there has to be."""

    def read(value: Any) -> str:
        if not (found := _text(value, longest)):
            raise ValueError("is missing")
        return found

    return read


def optional(longest: int) -> Conversion:
    """Empty where there is none."""
    return lambda value: _text(value, longest)


def _text(value: Any, longest: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("is no text")  # noqa: TRY004  as every other refusal
    found = one_line(value, by=" ").strip()
    if len(found) > longest:
        raise ValueError(f"is longer than {longest} characters")
    return found


def reference(value: Any) -> str:
    """The id of a row at INN8."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError("is no id")
    return value


def optional_reference(value: Any) -> str | None:
    return None if value is None else reference(value)


def phone(value: Any) -> str:
    """`(XXX) XXX-XXXX` of ten digits; any other number as it came."""
    written = _text(value, 64)
    digits = _NOT_A_DIGIT.sub("", written)
    return f"({digits[:3]}) {digits[3:6]}-{digits[6:]}" if len(digits) == 10 else written


def e164(value: Any) -> str:
    """Empty where it is no number that could be called."""
    return _e164(_text(value, 64))


@lru_cache(maxsize=4096)
def _e164(written: str) -> str:
    # What nearly all are; the library takes a hundred times as long, and knows the same of them.
    plus = "+" if written.startswith("+") else ""
    if found := _NORTH_AMERICAN.fullmatch(plus + _NOT_A_DIGIT.sub("", written)):
        return f"+1{found[1]}"
    try:
        number = phonenumbers.parse(written, _REGION)
    except NumberParseException:
        return ""
    return phonenumbers.format_number(number, PhoneNumberFormat.E164) if phonenumbers.is_valid_number(number) else ""


def address(value: Any) -> str:
    """`Street, City, State Zip`, without what is missing."""
    if value is None:
        return ""
    if not isinstance(value, dict):
        raise ValueError("is no address")  # noqa: TRY004  as every other refusal
    parts = cast("dict[str, Any]", value)
    street, city, state, zip_code = [_text(parts.get(name), 120) for name in ("street", "city", "state", "zipCode")]
    return ", ".join(filter(None, (street, city, f"{state} {zip_code}".strip())))


def one_of(kinds: type[StrEnum]) -> Conversion:
    """By its name in any case; Unknown is whatever INN8 may think of next."""
    known = {kind.lower(): kind.value for kind in kinds}

    def read(value: Any) -> str:
        return known.get(_text(value, 64).lower(), "Unknown")

    return read


def decimal(value: Any) -> str:
    """Digit for digit; a JSON number would have been a float on its way."""
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise ValueError("is no decimal text")
    return value


def optional_decimal(value: Any) -> str | None:
    return None if value is None else decimal(value)


def day(value: Any) -> date | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except (ValueError, TypeError):
        raise ValueError("is no date") from None


def moment(value: Any) -> datetime:
    """One without a zone is UTC."""
    try:
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("is no time") from None


# --- the tables ---

MAPPINGS: Mapping[Entity, tuple[Mapped, ...]] = {
    Entity.CLIENTS: (
        Mapped("fullName", "name", text(255)),
        Mapped("emailAddress", "email", optional(254)),
        Mapped("phoneNumber", "phone", phone),
        Mapped("phoneNumber", "phone_e164", e164),
        Mapped("address", "address", address),
        Mapped("status", "status", one_of(ClientStatus)),
    ),
    Entity.PORTFOLIOS: (
        Mapped("clientId", "client_external_id", reference),
        Mapped("name", "name", text(255)),
        Mapped("accountNumber", "account_number", optional(64)),
        Mapped("type", "account_type", one_of(AccountType)),
        Mapped("status", "status", one_of(PortfolioStatus)),
    ),
    Entity.SECURITIES: (
        Mapped("symbol", "symbol", text(32)),
        Mapped("name", "name", text(255)),
        Mapped("isin", "isin", optional(12)),
        Mapped("type", "type", one_of(SecurityType)),
        Mapped("currency", "currency", optional(3)),
    ),
    Entity.TRANSACTIONS: (
        Mapped("portfolioId", "portfolio_external_id", reference),
        Mapped("securityId", "security_external_id", optional_reference),
        Mapped("type", "type", one_of(TransactionType)),
        Mapped("quantity", "quantity", optional_decimal),
        Mapped("price", "price", optional_decimal),
        Mapped("amount", "amount", decimal),
        Mapped("currency", "currency", optional(3)),
        Mapped("tradeDate", "trade_date", day),
    ),
}


def transform(entity: Entity, item: Any) -> Record:
    """Raises Invalid."""
    if not isinstance(item, dict):
        raise Invalid("the item is no object")
    members = cast("dict[str, Any]", item)
    values: dict[str, Any] = {}
    field = "id"
    try:
        external_id = reference(members.get(field))
        field = "updatedAt"
        updated_at = moment(members.get(field))
        for field, column, read in MAPPINGS[entity]:
            values[column] = read(members.get(field))
    except ValueError as refused:
        raise Invalid(f"{field} {refused}") from None
    fingerprint = hashlib.blake2b(orjson.dumps([*values.values()]), digest_size=16).hexdigest()
    return Record(external_id=external_id, updated_at=updated_at, values=values, fingerprint=fingerprint)
