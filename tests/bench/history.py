"""The history of a million notifications: how long its pages take, by every combination of filters.

They are asked for through the whole application, edge included, one after another. Rows are drawn so that tenants,
recipients and channels are as uneven as in life: the busiest recipient has thousands, most have a few.
"""

import random
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import psycopg
from in_process import Headers, request
from load import percentiles
from notifications import ORDER, Service, serving

from notification.domain import ChannelName
from notification.tables import notifications

_DAYS = 365
_RECIPIENTS = 200_000
_TILLS = 20  # that order for whoever stands there: a message in twenty is one of theirs

# Each with its weight.
_TENANTS = {"default": 70, "t-2": 20, "t-3": 9, "t-4": 1}
_CHANNELS = {"email": 55, "push": 32, "sms": 12, "live": 1}
_STATUSES = {"delivered": 60, "sent": 35, "failed": 3, "suppressed": 2}
_TEMPLATES = {("OrderUpdates", "order-confirmed"): 45, ("OrderUpdates", "order-status"): 35, ("Marketing", "offer"): 20}


def _rows(count: int, ends: datetime) -> Iterator[tuple[str, ...]]:
    """The oldest first, over a year: the values of _DRAWN."""
    draw = random.Random(6)  # noqa: S311  the same rows every time
    drawn = (draw.choices([*one], [*one.values()], k=count) for one in (_TENANTS, _CHANNELS, _STATUSES, _TEMPLATES))
    orders: dict[str, str] = {}
    for number, (tenant, channel, status, (category, template)) in enumerate(zip(*drawn, strict=True)):
        at = ends - timedelta(days=_DAYS) * (1 - number / count)
        recipient = f"c-{int(_RECIPIENTS * draw.random() ** 3)}"
        owner = f"till-{draw.randrange(_TILLS)}" if draw.random() < 0.05 else f"u-{recipient}"
        if category == "OrderUpdates" and (recipient not in orders or draw.random() < 0.25):
            orders[recipient] = _uuid7(at, draw)
        subject = orders[recipient] if category == "OrderUpdates" else ""
        made = at.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
        yield _uuid7(at, draw), tenant, owner, recipient, subject, channel, status, category, template, made


def _uuid7(at: datetime, draw: random.Random) -> str:
    milliseconds, rest = f"{int(at.timestamp() * 1000):012x}", f"{draw.getrandbits(72):018x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{rest[:3]}-8{rest[3:6]}-{rest[6:]}"


_DRAWN = [
    "id",
    "tenant",
    "owner",
    "recipient_id",
    "subject_id",
    "channel",
    "status",
    "category",
    "template",
    "created_at",
]
_TAKEN = "CASE WHEN ?7 IN ('sent', 'delivered') THEN {} END"
# The other columns, in which ?1 is the first of _DRAWN; a column without a value here is null.
_SAME = {
    "effect": "?1",
    "event_id": "?5",
    "topic": "'orders'",
    "version": "2",
    "latest_only": "0",
    "chain": "''",
    "address": "?4 || '@example.com'",
    "locale": "'en'",
    "critical": "0",
    "link": "''",
    "context": "'" + orjson.dumps(ORDER).decode() + "'",
    "group_id": "CASE ?5 WHEN '' THEN 'bulk-' || substr(?10, 1, 10) ELSE '' END",
    "attempts": "1",
    "subject": "'Your order is confirmed'",
    "error": "CASE ?7 WHEN 'failed' THEN 'no such mailbox' END",
    "provider": _TAKEN.format("'smtp'"),
    "provider_message_id": _TAKEN.format("?1"),
    "traceparent": "'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'",
    "sent_at": _TAKEN.format("?10"),
    "delivered_at": "CASE ?7 WHEN 'delivered' THEN ?10 END",
}


def fill_sqlite(file: Path, count: int) -> None:
    """A migrated, empty database. Its indexes are made anew over all rows, which is several times quicker."""
    places = [f"?{number}" for number in range(1, len(_DRAWN) + 1)]
    names, values = ", ".join([*_DRAWN, *_SAME]), ", ".join([*places, *_SAME.values()])
    with closing(sqlite3.connect(file)) as conn:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000"):
            conn.execute(f"PRAGMA {pragma}")
        with without_indexes(conn, IN_SQLITE):
            conn.executemany(f"INSERT INTO notifications ({names}) VALUES ({values})", _rows(count, datetime.now(UTC)))  # noqa: S608  ours
        conn.commit()


def fill_postgresql(url: str, file: Path) -> None:
    """The same rows."""
    columns = [column.name for column in notifications.columns]
    line = " || char(9) || ".join(f"coalesce({name}, '\\N')" for name in columns)
    with closing(sqlite3.connect(file)) as source, psycopg.connect(url, autocommit=True) as conn:
        with conn.transaction(), without_indexes(conn, IN_POSTGRESQL):
            conn.execute("SET LOCAL timezone = 'UTC'")
            conn.execute("SET LOCAL maintenance_work_mem = '256MB'")
            with conn.cursor().copy(f"COPY notifications ({', '.join(columns)}) FROM STDIN".encode()) as copy:
                for (row,) in source.execute(f"SELECT {line} || char(10) FROM notifications ORDER BY id"):  # noqa: S608  ours
                    copy.write(row)
        conn.execute("VACUUM ANALYZE notifications")  # as autovacuum does after so many rows


@contextmanager
def without_indexes(conn: Any, known: str) -> Generator[None]:
    """`known` selects names and definitions; they are made again in the order of old, by which SQLite's choice goes."""
    indexes = conn.execute(known).fetchall()
    for name, _ in indexes:
        conn.execute(f"DROP INDEX {name}")
    yield
    for _, definition in indexes:
        conn.execute(definition)


IN_SQLITE = "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'notifications' AND type = 'index' AND sql <> ''"
# Those of constraints stay.
IN_POSTGRESQL = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'notifications' AND indexname LIKE 'ix%'"


# --- pages ---

_FILTERS = ("recipientId", "channel", "subjectId", "from-to")
_PAGES = ("first", "by cursor", "by number")
_DEEPEST = 500  # the page of that number, at 20 a page


class History:
    """Asks for what is there, each value of a filter from a row of its own half of the time, so that many find nothing.
    Rows are chosen at random, so a busy recipient is asked for as often as it has rows."""

    def __init__(self, service: Service, conn: sqlite3.Connection) -> None:
        self._service = service
        self._conn = conn
        self._conn.row_factory = sqlite3.Row
        (self._count,) = conn.execute("SELECT max(rowid) FROM notifications").fetchone()
        self._draw = random.Random(7)  # noqa: S311  the same questions every time
        self._bearers: dict[tuple[str, str], Headers] = {}

    async def took(self, who: str, filters: tuple[str, ...], page: str) -> float:
        """Milliseconds of one page for `staff` of a tenant, or for a user's `own`."""
        row = self._row()
        subject = row["owner"] if who == "own" else "s-1"
        asked = dict(chain.from_iterable(self._values(one, row).items() for one in filters))
        if page == "by cursor":
            asked["cursor"] = self._row()["id"]
        if page == "by number":
            asked["page"] = str(self._draw.randint(2, _DEEPEST))
        bearer = self._bearer("user" if who == "own" else "staff", row["tenant"], subject)
        answer = await request(self._service.app, "GET /api/v1/notifications", bearer, query=urlencode(asked))
        assert answer.status == 200, answer.body
        return answer.ms

    def _values(self, name: str, row: sqlite3.Row) -> dict[str, str]:
        if self._draw.random() < 0.5:
            row = self._row(row["tenant"])
        match name:
            case "recipientId":
                return {name: row["recipient_id"]}
            case "channel":
                return {name: self._draw.choice([*ChannelName])}
            case "subjectId":
                return {name: row["subject_id"] or "none"}
            case _:
                at = datetime.fromisoformat(row["created_at"]).replace(tzinfo=UTC)
                days = timedelta(days=self._draw.choice([1, 7, 30]))
                return {"from": (at - days).isoformat(), "to": (at + days).isoformat()}

    def _row(self, tenant: str | None = None) -> sqlite3.Row:
        while True:
            chosen = self._draw.randint(1, self._count)
            row = self._conn.execute("SELECT * FROM notifications WHERE rowid = ?", [chosen]).fetchone()
            if tenant in {None, row["tenant"]}:
                return row

    def _bearer(self, role: str, tenant: str, subject: str) -> Headers:
        key = tenant, subject
        if key not in self._bearers:
            self._bearers[key] = self._service.bearer(role, sub=subject, tenant=tenant)
        return self._bearers[key]


async def measure(url: str, folder: Path, rows: Path, *, times: int) -> dict[str, dict[str, float]]:
    """By who asks, for what and for which page, each asked `times`; `rows` is the SQLite file with the same rows."""
    every = [subset for size in range(len(_FILTERS) + 1) for subset in combinations(_FILTERS, size)]
    took: dict[str, list[float]] = {}
    with closing(sqlite3.connect(rows)) as conn:
        async with serving(url, folder) as service:
            history = History(service, conn)
            for _ in range(50):  # warm: code paths, connections, statement caches
                await history.took("staff", (), "first")
            for who in ("staff", "own"):
                for filters in every:
                    for page in _PAGES:
                        name = ", ".join([who, *filters, page])
                        took[name] = [await history.took(who, filters, page) for _ in range(times)]
    return {"all": percentiles([*chain(*took.values())]), **{name: percentiles(one) for name, one in took.items()}}
