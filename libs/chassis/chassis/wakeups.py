"""What wakes a loop that polls: a word in its own process and, on PostgreSQL, LISTEN and NOTIFY between replicas.

They are for speed alone; the poll finds everything that they would have told.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
import structlog

from chassis.db import Database

log = structlog.get_logger()

LINGER = 0.02  # seconds, of one that had several things to do at once: what comes meanwhile is done together
_LISTEN_AGAIN = 1.0
# A connection that only listens would not notice that its peer has vanished.
_LISTENING: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


# Seconds between two looks for what nobody has told, and where no other process writes: then little is left to find.
_POLL, _POLL_ALONE = 0.5, 2.5


def poll_of(db: Database) -> float:
    return _POLL_ALONE if db.exclusive else _POLL


class Wakeup:
    """What one loop sleeps by. Whoever clears it before looking misses nothing that is said meanwhile.

    `patience`: for so many seconds what wakes it may wait for more, since nobody waits for it.
    """

    def __init__(self, *, poll: float, patience: float = 0.0) -> None:
        self._poll = poll
        self._patience = patience
        self._woken = asyncio.Event()

    def set(self) -> None:
        self._woken.set()

    def clear(self) -> None:
        self._woken.clear()

    async def sleep(self, *, several: bool = False) -> None:
        """Until it is set, and for `poll` seconds at most. `several`: there was more than one thing to do, and so there
        will be."""
        try:
            async with asyncio.timeout(self._poll):
                await self._woken.wait()
        except TimeoutError:
            return
        if linger := max(self._patience, LINGER if several else 0.0):
            await asyncio.sleep(linger)


def notification(channel: str, what: str) -> sa.Function[Any]:
    """To be selected on PostgreSQL: delivered at the commit, and only if there is one."""
    return sa.func.pg_notify(channel, what)


async def listen(db: Database, channel: str, heard: Callable[[str | None], None]) -> None:
    """Hand on what is said, on PostgreSQL, until cancelled; None when it begins: what was said before wasn't heard."""
    import psycopg  # noqa: PLC0415  with its parts it takes 10 MB, and SQLite needs none of them

    dsn = db.url.set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, **_LISTENING) as connection:
                await connection.execute(f"LISTEN {channel}".encode())
                heard(None)
                async for said in connection.notifies():
                    heard(said.payload)
        except (psycopg.Error, OSError) as down:
            log.warning("listening.deaf", channel=channel, error=type(down).__name__)
        except Exception:
            log.exception("listening.failed", channel=channel)
        await asyncio.sleep(_LISTEN_AGAIN)
