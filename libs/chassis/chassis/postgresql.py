"""`chassis.db` on PostgreSQL: each unit on a connection of an async pool, run again where the server says so."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast

import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy.engine.interfaces import AdaptedConnection
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from chassis.db import sqlstate

log = structlog.get_logger()

T = TypeVar("T")

# How long a unit waits, at most, before it is run again. Each deadlock has taken a second by then.
_AGAIN_WITHIN = (0.02, 0.1, 0.5)
_POSTGRES = {
    # A plan for any value, to which PostgreSQL turns after five runs, can be a walk through a whole table.
    "plan_cache_mode": "force_custom_plan",
    # What is asked of many rows are their first few, as an index has them sorted. Where PostgreSQL's figures are old,
    # it would rather collect and sort them all: a relay read its whole backlog for each hundred.
    "enable_bitmapscan": "off",
    # A unit awaits nothing: whoever is silent for so long stands still, and others want the rows that it has locked.
    "idle_in_transaction_session_timeout": "10s",
}
# serialization_failure, deadlock_detected, idle_in_transaction_session_timeout: nothing of it happened
_TRY_AGAIN = {"40001", "40P01", "25P03"}


class PostgresBackend:
    def __init__(self, url: sa.URL, pool_size: int) -> None:
        self._engine: AsyncEngine = create_async_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=5,
            hide_parameters=True,  # a parameter may be an e-mail address, and errors are logged
            # Who was first is learnt by `rowcount`; unasked, SQLAlchemy answers -1 for an INSERT on psycopg.
            execution_options={"preserve_rowcount": True},
            connect_args={"options": " ".join(f"-c {name}={value}" for name, value in _POSTGRES.items())},
        )
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        await self._quiet.wait()  # what was begun is committed; the engine alone would leave its connections open
        await self._engine.dispose()

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        return await self._again(self._write_once, work)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        return await self._again(self._read_once, work)

    async def _again(self, once: "_Once", work: Callable[[sa.Connection], T]) -> T:
        """Until it is done, or fails in a way of which it isn't certain that nothing happened."""
        with self._busy():
            for pause in _AGAIN_WITHIN:
                try:
                    return await once(work)
                except _Gone as gone:
                    log.info("database.again", error=type(gone.error).__name__)
                except (OperationalError, InternalError) as error:
                    if (state := sqlstate(error)) not in _TRY_AGAIN:
                        raise
                    log.info("database.again", sqlstate=state)
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  two that met shall not meet again
            try:
                return await once(work)
            except _Gone as gone:
                raise gone.error from None

    async def _write_once(self, work: Callable[[sa.Connection], T]) -> T:
        async with self._engine.connect() as conn:
            with _before_its_end(conn):
                done = await conn.run_sync(work)
            await conn.commit()
            return done

    async def _read_once(self, work: Callable[[sa.Connection], T]) -> T:
        async with self._engine.connect() as conn:
            with _before_its_end(conn):
                return await conn.run_sync(lambda inner: work(_outside_transaction(inner)))

    @contextmanager
    def _busy(self) -> Generator[None]:
        self._under_way += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()


def copy(conn: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """See `db.insert_all`. What the driver raises is raised as SQLAlchemy's, as by any other statement."""
    if not conn.in_transaction():
        conn.begin()  # what the driver alone has begun would be rolled back
    text = cache(datetime.isoformat)  # most are one and the same moment

    async def run(driver: psycopg.AsyncConnection) -> None:
        async with driver.cursor() as cursor, cursor.copy(_COPY.format(table.name, ", ".join(rows[0])).encode()) as to:
            for row in rows:
                await to.write_row([text(value) if isinstance(value, datetime) else value for value in row.values()])

    try:
        cast("AdaptedConnection", conn.connection.dbapi_connection).run_async(run)
    except psycopg.Error as error:
        driver = cast("psycopg.AsyncConnection", conn.connection.driver_connection)
        if driver.closed:
            conn.invalidate(error)
        raise DBAPIError.instance(
            "COPY",
            None,
            error,
            psycopg.Error,
            hide_parameters=True,
            connection_invalidated=driver.closed,
            dialect=conn.dialect,
        ) from None


_COPY = "COPY {} ({}) FROM STDIN"  # our own tables' names need no quotes


_Once = Callable[[Callable[[sa.Connection], Any]], Awaitable[Any]]


class _Gone(Exception):
    """The connection was lost before the unit's end, so nothing of it happened: that the server was restarted is found
    when a connection is used next, which costs less than asking before every use."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@contextmanager
def _before_its_end(conn: AsyncConnection) -> Generator[None]:
    """Whatever the unit made of it, which may have been told by the first of its statements."""
    try:
        yield
    except Exception as error:
        if not conn.invalidated:
            raise
        raise _Gone(error) from error


def _outside_transaction(conn: sa.Connection) -> sa.Connection:
    """What only reads would see the same in a transaction, which is two more ways to the server and back. An engine of
    this level would leave a connection open whose unit is cancelled while it is being set."""
    return conn.execution_options(isolation_level="AUTOCOMMIT")
