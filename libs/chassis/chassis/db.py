"""SQL for every service: one `write` and one `read`, the same for SQLite and PostgreSQL.

A unit of work is a plain function over a SQLAlchemy `Connection`: it can't await, so no transaction is ever held open
across a call to somebody else, and it changes nothing but the database, so that it can be run again. On PostgreSQL it
runs on an async engine (`chassis.postgresql`). On SQLite one thread owns the only writing connection and commits
whatever has queued up meanwhile together, each unit in a savepoint of its own: no lock waits, and one fsync for many
units (measured: see docs/decisions/0002).
"""

import asyncio
import fcntl
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.event import listen
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import StaticPool

T = TypeVar("T")

_MAX_BATCH = 64
_READERS = 2


class _SqliteDatetime(sqlite.DATETIME):
    """Takes the text as `Timestamp` has written it, in C; its own is made in Python, field by field."""

    def bind_processor(self, dialect: sa.Dialect) -> None: ...


class Timestamp(sa.TypeDecorator[datetime]):
    """An aware UTC time: `timestamptz` on PostgreSQL, naive UTC text on SQLite, which has no other."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(_SqliteDatetime() if dialect.name == "sqlite" else self.impl_instance)

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        return _stored_text(value) if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


def _stored_text(value: date) -> str:
    """As SQLite keeps it: sorted by time, whatever its zone and microseconds."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    return value.isoformat()


def upsert(conn: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT, in the connection's own dialect (the two spell it alike)."""
    return upsert_in(conn.dialect.name, table)


def upsert_in(dialect: str, table: sa.Table) -> Any:
    """The same by the dialect's name, for statements of the hot path that are built once and cached: building one
    costs several times what running it does."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def among(conn: sa.Connection, column: sa.ColumnElement[Any], values: Collection[str]) -> sa.ColumnElement[bool]:
    """`column IN values`, for very many of them: as one parameter, because to write and parse an IN of five hundred
    takes several times what the database takes to answer it."""
    return among_in(conn.dialect.name, column, sa.literal(as_list(values), sa.Text))


def among_in(dialect: str, column: sa.ColumnElement[Any], listed: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """The same by the dialect's name, as `upsert_in`; `listed` is `as_list` of texts or numbers."""
    if dialect == "sqlite":
        return column.in_(sa.select(sa.func.json_each(listed).table_valued("value").c.value))
    # An array, of which PostgreSQL looks up each; a sub-select it may join to all of the table.
    every = sa.select(sa.cast(sa.func.json_array_elements_text(sa.cast(listed, sa.JSON)), column.type))
    return column == sa.any_(sa.func.array(every.scalar_subquery()))


def as_list(values: Collection[str | int]) -> str:
    return orjson.dumps([*values]).decode()


def insert_all(conn: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Many rows of the same columns, none of them with a default of SQLAlchemy's. One statement for each costs
    PostgreSQL three times as much as COPY; on SQLite it is the interpreter's time, which is everybody's, where one
    statement reads them all by itself."""
    if conn.dialect.name == "postgresql":
        from chassis.postgresql import copy  # noqa: PLC0415  with its driver it takes 17 MB

        copy(conn, table, rows)
        return
    columns = ", ".join(rows[0])
    values = ", ".join(f"value ->> {position}" for position in range(len(rows[0])))
    stored_text = cache(_stored_text)  # most are one and the same moment
    listed = orjson.dumps([[*row.values()] for row in rows], stored_text, orjson.OPT_PASSTHROUGH_DATETIME)
    insert = f"INSERT INTO {table.name} ({columns}) SELECT {values} FROM json_each(:rows)"  # noqa: S608  names of our own
    conn.execute(sa.text(insert), {"rows": listed.decode()})


def analyze(conn: sa.Connection, table: sa.Table) -> None:
    """PostgreSQL plans by what it knows of a table's columns, and looks at a new one after a minute at the earliest:
    until then it may read all of a table for a few rows of it."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text(f"ANALYZE {table.name}"))


def take_turns(conn: sa.Connection, names: Collection[str]) -> None:
    """Of transactions that give the same name here, each after the first waits until the one before has committed, and
    from its next statement on sees what that one has written. On SQLite all do."""
    if names and conn.dialect.name == "postgresql":
        conn.execute(_LOCK, {"names": sorted(names)})


def my_turn(conn: sa.Connection, name: str) -> bool:
    """The same without waiting: False while another transaction has that name."""
    return conn.dialect.name != "postgresql" or conn.execute(_TRY_LOCK, {"name": name}).scalar_one()


_TRY_LOCK = sa.text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(CAST(:names AS text[])) AS name")


@dataclass(slots=True)
class _Unit:
    work: Callable[[sa.Connection], Any]
    future: asyncio.Future[Any]


class DatabaseInUse(Exception):
    """Another process serves this SQLite file."""


# What a unit of work raises while the database does not answer, or not us.
DATABASE_DOWN = (OperationalError, InterfaceError, PoolTimeout, DatabaseInUse)


def sqlstate(error: Exception) -> str | None:
    """PostgreSQL's code for what a unit failed by; None where the server has said nothing."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


class Database:
    """One service's database. `exclusive` is true where this process is the only one (SQLite)."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.url = make_url(url)
        self.exclusive = self.url.get_backend_name() == "sqlite"
        self._backend: _Backend = _SqliteBackend(self.url) if self.exclusive else _postgresql(self.url, pool_size)

    async def start(self) -> None:
        await self._backend.start()

    async def stop(self) -> None:
        await self._backend.stop()

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one transaction. When this returns it is on disk; when it raises nothing of it happened."""
        return await self._backend.write(work)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        return await self._backend.read(work)

    async def ping(self) -> None:
        await self.read(lambda conn: conn.execute(sa.text("SELECT 1")).scalar())


class _Backend(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def write(self, work: Callable[[sa.Connection], T]) -> T: ...
    async def read(self, work: Callable[[sa.Connection], T]) -> T: ...


def _postgresql(url: sa.URL, pool_size: int) -> _Backend:
    from chassis.postgresql import PostgresBackend  # noqa: PLC0415  with its driver it takes 17 MB

    return PostgresBackend(url, pool_size)


class _SqliteBackend:
    def __init__(self, url: sa.URL) -> None:
        self._path = Path(url.database or "")
        self._url = url.set(drivername="sqlite+pysqlite")
        self._queue: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock_file: IO[str] | None = None
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="sqlite-read")
        self._read_engine = self._engine(pool_size=_READERS, max_overflow=0)
        self._write_engine = self._engine(poolclass=StaticPool)

    def _engine(self, **pool: Any) -> sa.Engine:
        engine = sa.create_engine(self._url, hide_parameters=True, connect_args={"check_same_thread": False}, **pool)
        listen(engine, "connect", _prepare_sqlite)
        return engine

    async def start(self) -> None:
        self._lock_file = await asyncio.to_thread(_lock, self._path.with_suffix(".lock"))
        # Connected before anybody reads: of two connections that both turn a file to WAL, one is refused at once.
        conn = await asyncio.to_thread(self._write_engine.connect)
        self._thread = threading.Thread(target=self._write_for_ever, args=(conn,), name="sqlite-write", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self._readers.shutdown(wait=True)
        self._read_engine.dispose()
        self._write_engine.dispose()
        if self._lock_file is not None:
            self._lock_file.close()

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(_Unit(work=work, future=future))
        return await future

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        def in_thread() -> T:
            with self._read_engine.connect() as conn:
                return work(conn)

        return await asyncio.get_running_loop().run_in_executor(self._readers, in_thread)

    def _write_for_ever(self, conn: sa.Connection) -> None:
        with conn:
            while (unit := self._queue.get()) is not None:
                batch = [unit]
                while len(batch) < _MAX_BATCH and (more := self._next()) is not None:
                    batch.append(more)
                _settle(_commit(conn, batch))

    def _next(self) -> _Unit | None:
        """Another waiting unit. The stop mark goes back to the end of the queue: what came before it is committed."""
        try:
            unit = self._queue.get_nowait()
        except queue.Empty:
            return None
        if unit is None:
            self._queue.put(None)
        return unit


_Outcomes = list[tuple[_Unit, Any, Exception | None]]


def _commit(conn: sa.Connection, batch: list[_Unit]) -> _Outcomes:
    """One transaction, a savepoint for each unit. Spoken to the driver itself: by SQLAlchemy they cost as much again as
    a unit does."""
    raw = cast("sqlite3.Connection", conn.connection.dbapi_connection)
    outcomes: _Outcomes = []
    try:
        raw.execute("BEGIN IMMEDIATE")
        for unit in batch:
            raw.execute("SAVEPOINT unit")
            try:
                outcomes.append((unit, unit.work(conn), None))
            except Exception as refused:  # noqa: BLE001  one unit's refusal is its caller's, not its neighbours'
                raw.execute("ROLLBACK TO unit")
                outcomes.append((unit, None, refused))
            raw.execute("RELEASE unit")
        raw.execute("COMMIT")
    except sqlite3.Error as failed:  # the transaction itself failed: nobody's unit happened
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        error = OperationalError("COMMIT", None, failed)
        return [(unit, None, error) for unit in batch]
    return outcomes


def _settle(outcomes: _Outcomes) -> None:
    """Answer every caller with one wake-up of the loop."""

    def on_loop() -> None:
        for unit, value, error in outcomes:
            if unit.future.done():
                continue
            if error is None:
                unit.future.set_result(value)
            else:
                unit.future.set_exception(error)

    outcomes[0][0].future.get_loop().call_soon_threadsafe(on_loop)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun in `_commit`, and by nobody else
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


def _lock(path: Path, *, within: float = 10) -> IO[str]:
    """Hold the file's lock for this process's life; a predecessor that is just ending is waited for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    deadline = time.monotonic() + within
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                message = f"{path}: another process serves this SQLite file; more replicas need PostgreSQL"
                raise DatabaseInUse(message) from None
            time.sleep(0.1)
        else:
            return file
