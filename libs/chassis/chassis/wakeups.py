"""What wakes a loop that polls: a word in its own process and, on PostgreSQL, LISTEN and NOTIFY between replicas.

They are for speed alone; the poll finds everything that they would have told.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

import sqlalchemy as sa
import structlog

from chassis.db import Database

log = structlog.get_logger()

_LINGER = 0.004  # of one that is woken often: what is committed meanwhile is done together
_BUSY = 0.02  # seconds since it was woken last
_LISTEN_AGAIN = 1.0
# A connection that only listens would not notice that its peer has vanished.
_LISTENING: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class Wakeup:
    """What one loop sleeps by. Whoever clears it before looking misses nothing that is said meanwhile."""

    def __init__(self, *, poll: float) -> None:
        self._poll = poll
        self._woken = asyncio.Event()
        self._woken_at = -inf

    def set(self) -> None:
        self._woken.set()

    def clear(self) -> None:
        self._woken.clear()

    async def sleep(self) -> None:
        """Until it is set, and for `poll` seconds at most."""
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._poll):
                await self._woken.wait()
        except TimeoutError:
            return
        if clock() - self._woken_at < _BUSY:
            await asyncio.sleep(_LINGER)
        self._woken_at = clock()


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
