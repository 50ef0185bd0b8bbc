"""The change feed: whatever every replica must hear is a row of the change's own transaction.

On SQLite a row is written with its position. On PostgreSQL one relay is active per service (`changes_relay`) and gives
rows that have none theirs, so a transaction that commits late gets the next position, and nobody who has read further
has skipped it. Every replica tails the positions and hands the rows to callbacks and to live readers.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from chassis.changes.relay import ADDED, CHANNEL, Relay, next_position
from chassis.changes.table import Change, Entry, change_of, changes_table, oldest, row_of
from chassis.db import DATABASE_DOWN, Database
from chassis.ids import now
from chassis.leases import Leases
from chassis.retention import Expiry
from chassis.wakeups import Wakeup, listen, notification, poll_of

__all__ = ["Callback", "Change", "Changes", "Entry", "Reader", "changes_table"]

log = structlog.get_logger()

_PAGE = 200  # handed out before readers get their turn: less than what one may have waiting
_READER_HOLDS = 1000  # changes waiting for one live reader; one more, and it is ended
_KEEP = timedelta(days=7)
_AGAIN = 0.5  # seconds, after a failure
_PATIENCE = 0.02  # for people who watch
_NOBODY_WATCHES = 0.25  # and then what this process alone has written is told to its own callbacks

Callback = Callable[[Change], None]


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


class Changes:
    def __init__(self, *, db: Database, table: sa.Table, leases: Leases, poll: float | None = None) -> None:
        self._db = db
        self._table = table
        self.expiry = Expiry(delete=oldest(table), keep=_KEEP)
        self._relay = Relay(db=db, table=table, leases=leases)
        self._wakeup = Wakeup(poll=poll or poll_of(db), patience=_PATIENCE)
        self._started = asyncio.Event()
        self._leaving = False
        self._position: int | None = None
        self._callbacks: dict[str, list[Callback]] = defaultdict(list)
        self._recent: list[tuple[str, Callback, timedelta]] = []
        self._readers: dict[tuple[str, str | None], set[Reader]] = defaultdict(set)
        # Built once: building a statement costs several times what running it does.
        # Where one process writes after itself alone, a row has its position from the beginning.
        self._insert = sa.insert(table).values(position=next_position(table)) if db.exclusive else sa.insert(table)
        self._insert_one: Any = self._insert if db.exclusive else self._insert.returning(notification(CHANNEL, ADDED))
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
        conn.execute(self._insert_one, row_of(Entry(tenant, topic, key, data)))

    def add_many(self, conn: sa.Connection, rows: Sequence[Entry]) -> None:
        """As `add`, with one statement."""
        if not rows:
            return
        conn.execute(self._insert, [row_of(entry) for entry in rows])
        if not self._db.exclusive:
            conn.execute(sa.select(notification(CHANNEL, ADDED)))

    async def tell(self, entry: Entry) -> None:
        """A change in a transaction of its own."""
        await self._db.write(lambda conn: self.add_many(conn, [entry]))
        self.wake()

    def wake(self) -> None:
        """A commit has just added something: look now instead of at the next poll."""
        self._wakeup.set()

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
        if self._leaving:
            reader.end()
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
        return [change_of(row) for row in rows]

    async def start_of(self, after: int | None) -> int | None:
        """Where whoever follows begins: `after`, or the present with None or with a position that there isn't, as is
        told before a database is restored. None where the process leaves before anything was live."""
        await self._started.wait()
        if self._position is None:
            return None
        newest = await self.latest()
        return newest if after is None else min(after, newest)

    async def follow(
        self, *, tenant: str, topic: str, key: str | None = None, after: int | None
    ) -> AsyncGenerator[Change]:
        """What came after where `after` begins (`start_of`), then whatever comes, without a gap and none twice.

        It ends where the reader was too slow, and when the process leaves. Close it (`contextlib.aclosing`) when it
        is left before its end.
        """
        # Until there is one nothing is live, and what is replayed now would leave a gap.
        if (last := await self.start_of(after)) is None:
            return
        # A long replay before anything waits for this reader, however slow it is.
        async for change in self._replay(last, tenant=tenant, topic=topic, key=key):
            last = change.position
            yield change
        with self.subscribe(topic, key=key, tenant=tenant) as live:
            async for change in self._replay(last, tenant=tenant, topic=topic, key=key):
                last = change.position
                yield change
            if self._leaving:  # what is live may be far ahead of a replay that was broken off
                return
            async for change in live:
                if change.position > last:
                    yield change

    async def _replay(self, last: int, *, tenant: str, topic: str, key: str | None) -> AsyncGenerator[Change]:
        while not self._leaving and (page := await self.since(last, tenant=tenant, topic=topic, key=key, limit=_PAGE)):
            for change in page:
                yield change
            if len(page) < _PAGE:
                return
            last = page[-1].position

    def end_readers(self) -> None:
        """For good: whoever reads live is told that there is no more here; elsewhere they go on where they were."""
        self._leaving = True
        self._started.set()  # whoever waits for the beginning has come to the end
        for reader in [one for readers in self._readers.values() for one in readers]:
            reader.end()

    # --- the loop ---

    async def run(self) -> None:
        """Give positions when it is our turn, and hand out what got one; until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                if not self._db.exclusive:
                    group.create_task(listen(self._db, CHANNEL, self._heard), name="changes-listen")
                await self._work()
        finally:
            self.end_readers()
            await self._relay.end()

    def _heard(self, what: str | None) -> None:
        """What has just been added concerns the relay; the others, what has got a position."""
        if what is None or (what == ADDED) == self._relay.on_duty:
            self.wake()

    async def _work(self) -> None:
        while True:
            self._wakeup.clear()
            try:
                more = await self._relay.work()
                if self._position is None and not (more and self._db.exclusive):
                    await self._begin()
                if (self._position is not None and await self._tail()) or more:
                    continue
            except DATABASE_DOWN as down:
                log.warning("changes.waiting", error=type(down).__name__)
                await asyncio.sleep(_AGAIN)
            except IntegrityError:
                log.warning("changes.two_relays")  # for a moment: the other was quicker, and nothing of ours happened
            except Exception:
                log.exception("changes.failed")
                await asyncio.sleep(_AGAIN)
            await self._wakeup.sleep()
            if self._db.exclusive and not self._readers:
                await asyncio.sleep(_NOBODY_WATCHES)

    async def _begin(self) -> None:
        """Take the present position; whoever wants recent changes is handed those up to there."""
        position, recent = await self._db.read(self._present)
        for callback, rows in recent:
            for row in rows:
                self._call(callback, change_of(row))
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
        change = change_of(row)
        for callback in callbacks:
            self._call(callback, change)
        for reader in readers:
            reader.offer(change)

    def _call(self, callback: Callback, change: Change) -> None:
        try:
            callback(change)
        except Exception:
            log.exception("changes.callback_failed", topic=change.topic, position=change.position)
