"""What was put on stock or taken off by hand, each with who and why, in the transaction of the move. What an order
takes and gives back is the order's own record."""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime

import orjson
import sqlalchemy as sa

from chassis.db import take_turns, upsert
from chassis.ids import new_id, now
from order.catalog import MOST
from order.domain import Shape, StockOutOfRange
from order.idempotency import IdempotencyMismatch
from order.tables import stock, stock_moves


@dataclass(frozen=True, kw_only=True)
class WantedMove:
    """`delta` is added to what there is. Of two moves under one `key` the first stands; keys are a caller's own."""

    sku: str
    variation: str | None
    delta: int
    reason: str
    actor: str
    key: str | None


class StockMove(Shape):
    """`balance` is what there was of the product after it."""

    id: str
    sku: str
    variation: str | None
    delta: int
    balance: int
    reason: str
    actor: str
    at: datetime


class StockMoves:
    """A tenant's, within a transaction."""

    def __init__(self, conn: sa.Connection, tenant: str) -> None:
        self._conn = conn
        self._tenant = tenant

    def make(self, wanted: WantedMove, *, first_stock: int) -> tuple[StockMove, bool]:
        """The move, and whether it stood there already. Raises StockOutOfRange or IdempotencyMismatch."""
        key = _hashed(wanted.actor, wanted.key) if wanted.key else None
        if key and (known := self._find(key, wanted)) is not None:
            return known, True
        line = {"tenant": self._tenant, "sku": wanted.sku}
        self._conn.execute(upsert(self._conn, stock).values(line | {"available": first_stock}).on_conflict_do_nothing())
        made = {"id": new_id(), "balance": self._add(wanted.sku, wanted.delta), "at": now(), "key": key}
        row = asdict(wanted) | line | made
        return _move(self._conn.execute(sa.insert(stock_moves).values(row).returning(stock_moves)).one()), False

    def page(self, sku: str, *, before: str | None, limit: int) -> list[StockMove]:
        """Newest first."""
        query = self._moves(stock_moves.c.sku == sku).order_by(stock_moves.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(stock_moves.c.id < before)
        return [_move(row) for row in self._conn.execute(query)]

    def available(self, sku: str) -> int | None:
        """None before anybody has asked for any."""
        line = (stock.c.tenant == self._tenant, stock.c.sku == sku)
        return self._conn.execute(sa.select(stock.c.available).where(*line)).scalar_one_or_none()

    def _find(self, key: str, wanted: WantedMove) -> StockMove | None:
        take_turns(self._conn, [f"{self._tenant}:{key}"])
        row = self._conn.execute(self._moves(stock_moves.c.key == key)).one_or_none()
        if row is None:
            return None
        if any(getattr(row, name) != value for name, value in asdict(wanted).items() if name != "key"):
            raise IdempotencyMismatch
        return _move(row)

    def _moves(self, *which: sa.ColumnElement[bool]) -> sa.Select[tuple[object, ...]]:
        return sa.select(stock_moves).where(stock_moves.c.tenant == self._tenant, *which)

    def _add(self, sku: str, delta: int) -> int:
        line = (stock.c.tenant == self._tenant, stock.c.sku == sku)
        in_range = stock.c.available.between(-delta, MOST - delta)
        moved = sa.update(stock).where(*line, in_range).values(available=stock.c.available + delta)
        balance = self._conn.execute(moved.returning(stock.c.available)).scalar_one_or_none()
        if balance is None:
            raise StockOutOfRange(self.available(sku) or 0)
        return balance


def _move(row: sa.Row[tuple[object, ...]]) -> StockMove:
    return StockMove.model_validate(row, from_attributes=True)


def _hashed(*parts: str) -> str:
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()
