"""What INN8 holds: thousands of rows made from a seed, the same every time, and whatever is changed since."""

import random
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import orjson

from sandbox.records import stamp, utc_now

Row = dict[str, Any]

Entity = Literal["clients", "portfolios", "securities", "transactions"]
ENTITIES: tuple[Entity, ...] = get_args(Entity)
ROWS: Mapping[str, int] = {"clients": 2000, "portfolios": 3000, "securities": 300, "transactions": 8000}

_BEGAN = datetime(2025, 1, 1, tzinfo=UTC)
_APART = timedelta(seconds=97)
_NAMES = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Frances", "Tony", "Radia", "Ken", "Zoë", "Jörg")
_FAMILIES = ("Hopper", "Lovelace", "O'Neill", "Turing", "Liskov", "Knuth", "Allen", "Hoare", "Perlman", "Núñez")
_STREETS = ("Main St", "Elm Ave", "1st Street", "Lake View Rd", "Broadway")
_CITIES = (("Austin", "TX", "73301"), ("Boston", "MA", "02108"), ("Seattle", "WA", "98101"), ("Denver", "CO", "80202"))
_PHONES = ("{}{}{}", "({}) {}-{}", "{}-{}-{}", "+1 {} {} {}", "{}.{}.{}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Rows as JSON, and the key of the last one; None where no more follow."""

    rows: list[bytes]
    last: tuple[str, str] | None


class Records:
    """One entity's rows in the order in which they are listed: by `updatedAt`, then by id."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {row["id"]: row for row in rows}
        self._keys = sorted(map(_key, self._rows.values()))
        self._encoded: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def page(self, *, since: str, after: tuple[str, str] | None, limit: int) -> Page:
        """Those that were updated at `since` or later, behind the key `after`."""
        start = bisect_left(self._keys, (since, ""))
        if after is not None:
            start = max(start, bisect_left(self._keys, (after[0], after[1] + "\x00")))
        keys = self._keys[start : start + limit]
        more = len(self._keys) > start + limit
        return Page(rows=[self._json(row_id) for _, row_id in keys], last=keys[-1] if more else None)

    def get(self, row_id: str) -> Row | None:
        return self._rows.get(row_id)

    def put(self, row: Row) -> None:
        self.delete(row["id"])
        self._rows[row["id"]] = row
        insort(self._keys, _key(row))

    def delete(self, row_id: str) -> bool:
        """Gone without a word, as at INN8: only who reads all rows can tell."""
        row = self._rows.pop(row_id, None)
        self._encoded.pop(row_id, None)
        if row is not None:
            del self._keys[bisect_left(self._keys, _key(row))]
        return row is not None

    def _json(self, row_id: str) -> bytes:
        if row_id not in self._encoded:
            self._encoded[row_id] = orjson.dumps(self._rows[row_id])
        return self._encoded[row_id]


def _key(row: Row) -> tuple[str, str]:
    return row["updatedAt"], row["id"]


def changed(row: Row, members: Row) -> Row:
    """The row with these members, changed now, or at their own `updatedAt`: an earlier one is a late commit."""
    at = members.get("updatedAt")
    moment = datetime.fromisoformat(at) if isinstance(at, str) else utc_now()
    return row | members | {"updatedAt": stamp(moment.astimezone(UTC))}


def made(entity: str, count: int, *, counts: Mapping[str, int], seed: int) -> list[Row]:
    """So many rows of an entity, the oldest first; parents are among the `counts` of theirs."""
    draw = random.Random(f"{seed}:{entity}")  # noqa: S311  the same rows every time
    return [_MAKERS[entity](number, draw, counts) | _when(number) for number in range(1, count + 1)]


def _when(number: int) -> Row:
    return {"updatedAt": stamp(_BEGAN + number * _APART)}


def _client(number: int, draw: random.Random, _counts: Mapping[str, int]) -> Row:
    city, state, zip_code = draw.choice(_CITIES)
    phone = (f"{draw.randint(201, 989)}", f"{draw.randint(200, 999)}", f"{draw.randint(0, 9999):04}")
    return {
        "id": f"C-{number:06}",
        "fullName": f"{draw.choice(_NAMES)} {draw.choice(_FAMILIES)}",
        "emailAddress": f"client{number}@clients.example",
        "phoneNumber": draw.choice(_PHONES).format(*phone),
        "address": {
            "street": f"{draw.randint(1, 999)} {draw.choice(_STREETS)}",
            "city": city,
            "state": state,
            "zipCode": zip_code,
        },
        "status": draw.choice(("active", "active", "active", "inactive", "suspended")),
    }


def _portfolio(number: int, draw: random.Random, counts: Mapping[str, int]) -> Row:
    return {
        "id": f"P-{number:06}",
        "clientId": f"C-{draw.randint(1, max(counts['clients'], 1)):06}",
        "name": f"{draw.choice(('Growth', 'Income', 'Savings', 'Retirement'))} {number}",
        "accountNumber": f"{draw.randrange(10**9):09}",
        "type": draw.choice(("individual", "joint", "ira", "trust", "corporate")),
        "status": draw.choice(("open", "open", "open", "closed", "frozen")),
    }


def _security(number: int, draw: random.Random, _counts: Mapping[str, int]) -> Row:
    return {
        "id": f"S-{number:06}",
        "symbol": f"SY{number}",
        "name": f"Security {number}",
        "isin": f"US{draw.randrange(10**10):010}",
        "type": draw.choice(("equity", "equity", "bond", "etf", "fund")),
        "currency": "USD",
    }


def _transaction(number: int, draw: random.Random, counts: Mapping[str, int]) -> Row:
    kind = draw.choice(("buy", "sell", "dividend", "interest", "fee", "deposit", "withdrawal", "transfer"))
    traded = kind in {"buy", "sell", "dividend"} and counts["securities"]
    quantity, price = draw.randint(1, 500), draw.randint(100, 99_999)
    return {
        "id": f"T-{number:06}",
        "portfolioId": f"P-{draw.randint(1, max(counts['portfolios'], 1)):06}",
        "securityId": f"S-{draw.randint(1, counts['securities']):06}" if traded else None,
        "type": kind,
        "quantity": str(quantity) if traded else None,
        "price": f"{price / 100:.2f}" if traded else None,
        "amount": f"{quantity * price / 100:.2f}",
        "currency": "USD",
        "tradeDate": (_BEGAN + number * _APART).date().isoformat(),
    }


_MAKERS = {
    "clients": _client,
    "portfolios": _portfolio,
    "securities": _security,
    "transactions": _transaction,
}
