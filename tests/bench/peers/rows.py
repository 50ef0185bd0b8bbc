"""The peers' rows, in SQLite or in PostgreSQL. Every statement may be run again: it has its effect once, by its key.

What a step writes is one transaction. PostgreSQL gets it as one statement, prepared, in one round trip. SQLite is
written as in `chassis.db`: by one thread, which commits together what came meanwhile, WAL and synchronous=FULL.
"""

import asyncio
import queue
import re
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from psycopg_pool import AsyncConnectionPool

_TABLES = """
CREATE TABLE IF NOT EXISTS orders (
  id text PRIMARY KEY, tenant text NOT NULL, owner text NOT NULL, status text NOT NULL, version integer NOT NULL,
  customer_id text NOT NULL, customer text NOT NULL, items text NOT NULL, total text NOT NULL, currency text NOT NULL,
  location text NOT NULL, payment_method text NOT NULL, payment_status text NOT NULL, transaction_id text,
  created_at text NOT NULL);
CREATE INDEX IF NOT EXISTS ix_orders_tenant ON orders (tenant, id);
CREATE INDEX IF NOT EXISTS ix_orders_customer ON orders (tenant, customer_id, id);
CREATE TABLE IF NOT EXISTS payments (
  key text PRIMARY KEY, tenant text NOT NULL, order_id text NOT NULL, amount text NOT NULL, currency text NOT NULL,
  method text NOT NULL, status text NOT NULL, provider text NOT NULL, transaction_id text NOT NULL,
  created_at text NOT NULL);
CREATE INDEX IF NOT EXISTS ix_payments_order ON payments (tenant, order_id);
CREATE TABLE IF NOT EXISTS notifications (
  id text PRIMARY KEY, tenant text NOT NULL, order_id text NOT NULL, recipient_id text NOT NULL, channel text NOT NULL,
  address text NOT NULL, template text NOT NULL, status text NOT NULL, created_at text NOT NULL, sent_at text);
CREATE INDEX IF NOT EXISTS ix_notifications_recipient ON notifications (tenant, recipient_id, id);
"""
ORDER = """INSERT INTO orders (id, tenant, owner, status, version, customer_id, customer, items, total, currency,
location, payment_method, payment_status, created_at) VALUES (:id, :tenant, :owner, 'pending_payment', 1, :customer_id,
:customer, :items, :total, :currency, :location, :method, 'processing', :at) ON CONFLICT (id) DO NOTHING"""
PAYMENT = """INSERT INTO payments (key, tenant, order_id, amount, currency, method, status, provider, transaction_id,
created_at) VALUES (:key, :tenant, :id, :total, :currency, :method, 'succeeded', 'a', :transaction_id, :at)
ON CONFLICT (key) DO NOTHING"""
CONFIRM = """UPDATE orders SET status = 'confirmed', payment_status = 'succeeded', transaction_id = :transaction_id,
version = version + 1 WHERE id = :id AND status = 'pending_payment'"""
DECLINE = """UPDATE orders SET status = 'payment_failed', payment_status = 'declined', version = version + 1
WHERE id = :id AND status = 'pending_payment'"""
NOTIFICATION = """INSERT INTO notifications (id, tenant, order_id, recipient_id, channel, address, template, status,
created_at) VALUES (:id, :tenant, :order_id, :recipient_id, 'email', :address, 'order-confirmed', 'queued', :at)
ON CONFLICT (id) DO NOTHING"""
SENT = "UPDATE notifications SET status = 'sent', sent_at = :at WHERE id = :id AND status = 'queued'"
Values = Mapping[str, Any]


class Rows(Protocol):
    async def write(self, values: Values, *statements: str) -> None:
        """In one transaction, on disk when this returns."""
        ...

    async def close(self) -> None: ...


async def opened(url: str) -> Rows:
    """`postgresql://…`, or the path of a SQLite file."""
    if not url.startswith("postgresql:"):
        return SqliteRows(url)
    pool = AsyncConnectionPool(url, min_size=8, max_size=8, open=False, kwargs={"autocommit": True})
    await pool.open(wait=True)
    async with pool.connection() as connection:
        await connection.execute(_TABLES)
    return PostgresRows(pool)


class PostgresRows:
    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._texts: dict[tuple[str, ...], str] = {}

    async def write(self, values: Values, *statements: str) -> None:
        text = self._texts.get(statements) or self._texts.setdefault(statements, _together(statements))
        async with self._pool.connection() as connection:
            await connection.execute(text, values)  # of each text psycopg prepares the sixth

    async def close(self) -> None:
        await self._pool.close()


def _together(statements: Sequence[str]) -> str:
    *before, last = (re.sub(r":(\w+)", r"%(\1)s", statement) for statement in statements)
    named = ", ".join(f"s{place} AS ({statement})" for place, statement in enumerate(before))
    return f"WITH {named} {last}" if named else last


_Unit = tuple[Values, Sequence[str], asyncio.Future[None]]


class SqliteRows:
    def __init__(self, path: str) -> None:
        self._queue: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(_TABLES)
        self._thread = threading.Thread(target=self._write_for_ever, args=(connection,), daemon=True)
        self._thread.start()

    async def write(self, values: Values, *statements: str) -> None:
        written = asyncio.get_running_loop().create_future()
        self._queue.put((values, statements, written))
        await written

    async def close(self) -> None:
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _write_for_ever(self, connection: sqlite3.Connection) -> None:
        while (unit := self._queue.get()) is not None:
            units = [unit]
            while not self._queue.empty() and (more := self._queue.get()) is not None:
                units.append(more)
            error = _commit(connection, units)
            unit[2].get_loop().call_soon_threadsafe(_settle, units, error)
        connection.close()


def _commit(connection: sqlite3.Connection, units: Sequence[_Unit]) -> Exception | None:
    """All or nothing: nobody's statement refuses, so what fails is the database, and every step is taken again."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for values, statements, _ in units:
            for statement in statements:
                connection.execute(statement, values)
        connection.execute("COMMIT")
    except sqlite3.Error as failed:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return failed
    return None


def _settle(units: Sequence[_Unit], error: Exception | None) -> None:
    for _, _, written in units:
        if not written.done():
            written.set_exception(error) if error else written.set_result(None)
