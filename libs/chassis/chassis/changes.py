"""The change feed: whatever every replica must hear is a row of the change's own transaction.

One relay is active per service (a lease; on SQLite the only process) and gives rows that have none their position,
so a transaction that commits late gets the next position, and nobody who has read further has skipped it. Every
replica tails the positions and hands the rows to callbacks and to live readers. Wake-ups (in-process, and LISTEN and
NOTIFY on PostgreSQL) are for speed alone; the poll finds everything they would have told.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

import orjson
import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from chassis.db import Database, Timestamp
from chassis.ids import now
from chassis.leases import Leases
from chassis.problems import DATABASE_DOWN

log = structlog.get_logger()

_BATCH = 1000  # positions given, or old rows deleted, by one statement
_PAGE = 200  # handed out before readers get their turn: less than what one may have waiting
_READER_HOLDS = 1000  # changes waiting for one live reader; one more, and it is ended
_POLL = 0.5  # seconds; the fall-back when no wake-up came
_LINGER = 0.01  # what is committed meanwhile gets its position together
_LEASE = "changes-relay"
_LEASE_SECONDS = 5.0
_LEASE_TRY = 1.0  # how often a stand-by asks for it
_LISTEN_AGAIN = 1.0
_KEEP = timedelta(days=7)
_CLEAN_EVERY = 3600.0

_CHANNEL, _ADDED, _PLACED = "changes", "", "placed"
# A connection that only listens would not notice that its peer has vanished.
_LISTENING: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


def changes_table(metadata: sa.MetaData) -> sa.Table:
    waiting, placed = sa.text("position IS NULL"), sa.text("position IS NOT NULL")
    return sa.Table(
        "changes",
        metadata,
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("position", sa.BigInteger, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Index("ix_changes_waiting", "seq", sqlite_where=waiting, postgresql_where=waiting),
        sa.Index(
            "ix_changes_replay", "topic", "tenant", "key", "position", sqlite_where=placed, postgresql_where=placed
        ),
    )


class Entry(NamedTuple):
    """A change to be told; `data` is JSON-able, `key` at most 128 characters."""

    tenant: str
    topic: str
    key: str
    data: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A change that was told. `position` grows by commit as everybody sees it; live readers' `Last-Event-ID`."""

    position: int
    tenant: str
    topic: str
    key: str
    data: Any
    created_at: datetime


class Reader:
    """An asynchronous iterator over live changes. It ends when its reader was too slow: what it has given is whole up
    to there, and whoever follows again after the last position misses nothing."""

    def __init__(self, tenant: str | None) -> None:
        self._tenant = tenant
        self._waiting: asyncio.Queue[Change | None] = asyncio.Queue(_READER_HOLDS)
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        if self._ended and self._waiting.empty():
            raise StopAsyncIteration
        if (change := await self._waiting.get()) is None:
            raise StopAsyncIteration
        return change

    def offer(self, change: Change) -> None:
        if self._ended or self._tenant not in {None, change.tenant}:
            return
        if self._waiting.full():
            self._ended = True
            log.warning("changes.reader_too_slow", topic=change.topic, position=change.position)
            return
        self._waiting.put_nowait(change)

    def end(self) -> None:
        self._ended = True
        if self._waiting.empty():
            self._waiting.put_nowait(None)  # it may be waiting for one


Callback = Callable[[Change], None]


class Changes:
    def __init__(self, *, db: Database, table: sa.Table, leases: Leases, poll: float = _POLL) -> None:
        self._db = db
        self._table = table
        self._leases = leases
        self._poll = poll
        self._woken = asyncio.Event()
        self._started = asyncio.Event()
        self._position: int | None = None
        self._held_until = self._lease_try_at = self._clean_at = 0.0
        self._callbacks: dict[str, list[Callback]] = defaultdict(list)
        self._recent: list[tuple[str, Callback, timedelta]] = []
        self._readers: dict[tuple[str, str | None], set[Reader]] = defaultdict(set)
        # Built once: building a statement costs several times what running it does.
        self._insert = sa.insert(table)
        self._insert_one: Any = self._insert if db.exclusive else self._insert.returning(_notify(_ADDED))
        self._place = _next_positions(table)
        self._delete = _oldest(table)
        self._select = sa.select(table).where(table.c.position > sa.bindparam("after")).order_by(table.c.position)

    @property
    def position(self) -> int | None:
        """Of the last change that was handed out here; None until `run` has begun to tail."""
        return self._position

    async def latest(self) -> int:
        """The newest position there is; 0 where there is none."""
        return await self._db.read(self._newest)

    # --- writing ---

    def add(self, conn: sa.Connection, *, tenant: str, topic: str, key: str, data: Any) -> None:
        """Add a change to the caller's transaction; after its commit, call `wake`."""
        conn.execute(self._insert_one, _row(Entry(tenant, topic, key, data)))

    def add_many(self, conn: sa.Connection, rows: Sequence[Entry]) -> None:
        """As `add`, with one statement."""
        if not rows:
            return
        conn.execute(self._insert, [_row(entry) for entry in rows])
        self._notify_others(conn, _ADDED)

    async def tell(self, entry: Entry) -> None:
        """A change in a transaction of its own."""
        await self._db.write(lambda conn: self.add_many(conn, [entry]))
        self.wake()

    def wake(self) -> None:
        """A commit has just added something: look now instead of at the next poll."""
        self._woken.set()

    # --- reading ---

    def on_change(self, topic: str, callback: Callback, *, recent: timedelta | None = None) -> None:
        """Hand every change of `topic` to `callback`, from when `run` begins; it must not block.

        With `recent` it is first handed the latest change of each key that is not older.
        """
        if self._position is not None:
            raise RuntimeError("callbacks are registered before run")
        self._callbacks[topic].append(callback)
        if recent is not None:
            self._recent.append((topic, callback, recent))

    @contextmanager
    def subscribe(self, topic: str, *, key: str | None = None, tenant: str | None = None) -> Generator[Reader]:
        """What comes from now on, of one key and one tenant or of all."""
        reader = Reader(tenant)
        readers = self._readers[topic, key]
        readers.add(reader)
        try:
            yield reader
        finally:
            readers.discard(reader)
            if not readers:
                self._readers.pop((topic, key), None)

    async def since(
        self, position: int, *, tenant: str, topic: str, key: str | None = None, limit: int = 1000
    ) -> list[Change]:
        """The first `limit` changes after `position`."""
        c = self._table.c
        chosen = self._select.where(c.tenant == tenant, c.topic == topic).limit(limit)
        if key is not None:
            chosen = chosen.where(c.key == key)
        rows = await self._db.read(lambda conn: conn.execute(chosen, {"after": position}).all())
        return [_change(row) for row in rows]

    async def follow(
        self, *, tenant: str, topic: str, key: str | None = None, after: int | None
    ) -> AsyncGenerator[Change]:
        """What came after `after`, then whatever comes, without a gap and none twice; None: from now on.

        It ends where the reader was too slow. Close it (`contextlib.aclosing`) when it is left before its end.
        """
        await self._started.wait()  # until then nothing is live, and what is replayed now would leave a gap
        last = -1 if after is None else after
        if after is not None:
            # A long replay before anything waits for this reader, however slow it is.
            async for change in self._replay(last, tenant=tenant, topic=topic, key=key):
                last = change.position
                yield change
        with self.subscribe(topic, key=key, tenant=tenant) as live:
            if after is not None:
                async for change in self._replay(last, tenant=tenant, topic=topic, key=key):
                    last = change.position
                    yield change
            async for change in live:
                if change.position > last:
                    yield change

    async def _replay(self, last: int, *, tenant: str, topic: str, key: str | None) -> AsyncGenerator[Change]:
        while page := await self.since(last, tenant=tenant, topic=topic, key=key, limit=_PAGE):
            for change in page:
                yield change
            if len(page) < _PAGE:
                return
            last = page[-1].position

    def end_readers(self) -> None:
        """Whoever reads live is told that there is no more here; elsewhere they go on where they were."""
        for reader in [one for readers in self._readers.values() for one in readers]:
            reader.end()

    # --- the loop ---

    async def run(self) -> None:
        """Give positions when it is our turn, and hand out what got one; until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                if not self._db.exclusive:
                    group.create_task(self._listen(), name="changes-listen")
                await self._work()
        finally:
            self.end_readers()
            await self._hand_over()

    async def _work(self) -> None:
        while True:
            self._woken.clear()
            try:
                if self._position is None:
                    await self._begin()
                more = await self._relay() if await self._is_relay() else False
                if await self._tail() or more:
                    continue
            except DATABASE_DOWN as down:
                log.warning("changes.waiting", error=type(down).__name__)
                await asyncio.sleep(self._poll)
            except IntegrityError:
                log.warning("changes.two_relays")  # for a moment: the other was quicker, and nothing of ours happened
            except Exception:
                log.exception("changes.failed")
                await asyncio.sleep(self._poll)
            await self._sleep_until_woken()

    async def _sleep_until_woken(self) -> None:
        try:
            async with asyncio.timeout(self._poll):
                await self._woken.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_LINGER)

    # --- as the relay ---

    async def _is_relay(self) -> bool:
        if self._db.exclusive:
            return True
        clock = asyncio.get_running_loop().time
        if self._held_until - clock() < _LEASE_SECONDS / 2 and clock() >= self._lease_try_at:
            until = clock() + _LEASE_SECONDS  # from before the row is written: never longer than the row says
            self._lease_try_at = clock() + _LEASE_TRY
            self._held_until = until if await self._leases.hold(_LEASE, seconds=_LEASE_SECONDS) else 0.0
        return self._held_until > clock()

    async def _hand_over(self) -> None:
        """Another replica need not wait for the lease to end."""
        if self._held_until:
            self._held_until = 0.0
            with suppress(*DATABASE_DOWN, TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._leases.release(_LEASE)

    async def _relay(self) -> bool:
        """Give positions to what waits, and once in an hour throw out what is old; True when more may wait."""
        placed = await self._db.write(self._place_waiting)
        clock = asyncio.get_running_loop().time
        if placed < _BATCH and clock() >= self._clean_at:
            deleted = await self._db.write(self._delete_oldest)
            self._clean_at = 0.0 if deleted == _BATCH else clock() + _CLEAN_EVERY
        return placed == _BATCH

    def _place_waiting(self, conn: sa.Connection) -> int:
        if placed := conn.execute(self._place).rowcount:
            self._notify_others(conn, _PLACED)
        return placed

    def _delete_oldest(self, conn: sa.Connection) -> int:
        return conn.execute(self._delete, {"before": now() - _KEEP}).rowcount

    # --- as every replica ---

    async def _begin(self) -> None:
        """Take the present position; whoever wants recent changes is handed those up to there."""
        position, recent = await self._db.read(self._present)
        for callback, rows in recent:
            for row in rows:
                self._call(callback, _change(row))
        self._position = position
        self._started.set()

    def _present(self, conn: sa.Connection) -> tuple[int, list[tuple[Callback, Sequence[sa.Row[Any]]]]]:
        position = self._newest(conn)
        c = self._table.c
        found: list[tuple[Callback, Sequence[sa.Row[Any]]]] = []
        for topic, callback, age in self._recent:
            recent = sa.and_(c.topic == topic, c.created_at > now() - age, c.position <= position)
            latest = sa.select(sa.func.max(c.position)).where(recent).group_by(c.tenant, c.key)
            found.append((callback, conn.execute(self._select.where(c.position.in_(latest)), {"after": 0}).all()))
        return position, found

    def _newest(self, conn: sa.Connection) -> int:
        return conn.execute(sa.select(sa.func.coalesce(sa.func.max(self._table.c.position), 0))).scalar_one()

    async def _tail(self) -> bool:
        """Hand out one page; True when there may be more."""
        page = self._select.limit(_PAGE)
        rows = await self._db.read(lambda conn: conn.execute(page, {"after": self._position}).all())
        for row in rows:
            self._position = row.position
            self._hand_out(row)
        return len(rows) == _PAGE

    def _hand_out(self, row: sa.Row[Any]) -> None:
        callbacks = self._callbacks.get(row.topic, ())
        readers = [*self._readers.get((row.topic, row.key), ()), *self._readers.get((row.topic, None), ())]
        if not callbacks and not readers:
            return
        change = _change(row)
        for callback in callbacks:
            self._call(callback, change)
        for reader in readers:
            reader.offer(change)

    def _call(self, callback: Callback, change: Change) -> None:
        try:
            callback(change)
        except Exception:
            log.exception("changes.callback_failed", topic=change.topic, position=change.position)

    # --- wake-ups between replicas ---

    def _notify_others(self, conn: sa.Connection, what: str) -> None:
        """Delivered at the commit, and only if there is one."""
        if not self._db.exclusive:
            conn.execute(sa.select(_notify(what)))

    async def _listen(self) -> None:
        dsn = self._db.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, **_LISTENING) as connection:
                    await connection.execute(f"LISTEN {_CHANNEL}")
                    self.wake()  # what was said before was not heard
                    async for heard in connection.notifies():
                        if (heard.payload == _ADDED) == self._relaying():
                            self.wake()
            except (psycopg.Error, OSError) as down:
                log.warning("changes.deaf", error=type(down).__name__)
            except Exception:
                log.exception("changes.listen_failed")
            await asyncio.sleep(_LISTEN_AGAIN)

    def _relaying(self) -> bool:
        """What has just been added concerns the relay; the others, what has got a position."""
        return self._held_until > asyncio.get_running_loop().time()


def _row(entry: Entry) -> dict[str, Any]:
    return {**entry._asdict(), "data": orjson.dumps(entry.data).decode(), "created_at": now()}


def _change(row: sa.Row[Any]) -> Change:
    return Change(
        position=row.position,
        tenant=row.tenant,
        topic=row.topic,
        key=row.key,
        data=orjson.loads(row.data),
        created_at=row.created_at,
    )


def _notify(what: str) -> sa.Function[Any]:
    return sa.func.pg_notify(_CHANNEL, what)


def _next_positions(table: sa.Table) -> sa.Update:
    """Positions for the first waiting rows, from the newest one on, which is therefore never deleted.

    Two relays at once (one was paused past its lease) both want the next position: the second waits for the first,
    then finds the row taken, or breaks the unique constraint. So what commits first is what comes first.
    """
    newest = sa.select(sa.func.coalesce(sa.func.max(table.c.position), 0)).scalar_subquery()
    number = sa.func.row_number().over(order_by=table.c.seq)
    waiting = (
        sa.select(table.c.seq, (newest + number).label("position"))
        .where(table.c.position.is_(None))
        .order_by(table.c.seq)
        .limit(_BATCH)
        .subquery("waiting")
    )
    return (
        sa.update(table)
        .where(table.c.seq == waiting.c.seq, table.c.position.is_(None))
        .values(position=waiting.c.position)
    )


def _oldest(table: sa.Table) -> sa.Delete:
    """The first rows, as far as they are old; never the newest one."""
    first = sa.select(table.c.position).where(table.c.position.is_not(None)).order_by(table.c.position).limit(_BATCH)
    newest = sa.select(sa.func.max(table.c.position)).scalar_subquery()
    return sa.delete(table).where(
        table.c.position.in_(first),
        table.c.position < newest,
        table.c.created_at < sa.bindparam("before", type_=Timestamp),
    )
