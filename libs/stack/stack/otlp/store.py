"""Spans and log lines in SQLite: one writer, and of everything the newest, up to a size."""

import json
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stack.otlp.records import Line, Span

MOST_BYTES = 100 * 2**20
_MOST_OF_A_TRACE = 2000  # spans, and as many lines
_MOST_CALLS = 50_000  # that a map is drawn from, the newest

_TABLES = """
CREATE TABLE IF NOT EXISTS spans (
  id INTEGER PRIMARY KEY, trace TEXT, span TEXT, parent TEXT, service TEXT, peer TEXT, name TEXT, kind TEXT,
  start INTEGER, duration INTEGER, error INTEGER, tenant TEXT, attributes TEXT);
CREATE INDEX IF NOT EXISTS spans_of_trace ON spans (trace, span);
CREATE INDEX IF NOT EXISTS spans_by_start ON spans (start);
CREATE TABLE IF NOT EXISTS lines (
  id INTEGER PRIMARY KEY, trace TEXT, span TEXT, service TEXT, at INTEGER, level TEXT, name TEXT, tenant TEXT,
  attributes TEXT);
CREATE INDEX IF NOT EXISTS lines_of_trace ON lines (trace);
"""

# Who called whom, by the spans that name the other side (`peer.service`): who asks names whom, who hears an event names
# whose it is. What sidecars say of it is the same call again.
_CALLS = """
SELECT iif(kind = 'server', peer, service), iif(kind = 'server', service, peer),
iif(kind = 'server', 'event', 'call'), duration, error FROM spans
WHERE start >= :since AND peer != '' {of_tenant} ORDER BY start DESC LIMIT :most
"""
_OF_TENANT = """AND trace IN (SELECT trace FROM spans WHERE tenant = :tenant
UNION SELECT trace FROM lines WHERE tenant = :tenant)"""


class Store:
    """Of one process. Everything but `add` may be called from any thread."""

    def __init__(self, file: Path, *, most_bytes: int = MOST_BYTES) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._most_bytes = most_bytes
        self._writing = threading.Lock()
        self._writer = self._connect()
        self._writer.executescript(f"PRAGMA journal_mode=WAL; PRAGMA journal_size_limit={2**20}; {_TABLES}")

    def _connect(self) -> sqlite3.Connection:
        conn = sqlite3.connect(self._file, check_same_thread=False)
        conn.execute("PRAGMA synchronous=OFF")  # what a crash of the machine takes of it is no loss
        return conn

    def close(self) -> None:
        self._writer.close()

    def add(self, rows: Sequence[Span | Line]) -> None:
        """In one commit; the oldest go where it is too much."""
        with self._writing, self._writer as conn:
            for table, kind in (("spans", Span), ("lines", Line)):
                names = [field.name for field in fields(kind)]
                marks = ", ".join("?" * len(names))
                conn.executemany(
                    f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})",  # noqa: S608  our own names
                    [astuple(row) for row in rows if type(row) is kind],
                )
        while self.size() > self._most_bytes and self._forget():
            pass

    def size(self) -> int:
        """Bytes in use: what was deleted is written over, and the file grows no further."""
        pages, free, size = (
            self._writer.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _forget(self) -> int:
        """The tenth of each table that came first. How many rows went."""
        with self._writing, self._writer as conn:
            return sum(
                conn.execute(
                    f"DELETE FROM {table} WHERE id <= (SELECT min(id) + (max(id) - min(id)) / 10 FROM {table})"  # noqa: S608
                ).rowcount
                for table in ("spans", "lines")
            )

    def by_trace(self, trace: str) -> dict[str, list[dict[str, Any]]]:
        """`{spans, logs}`, each by time, and empty where the trace is not known."""
        return {
            "spans": self._rows("SELECT * FROM spans WHERE trace = ? ORDER BY start, id LIMIT ?", trace),
            "logs": self._rows("SELECT * FROM lines WHERE trace = ? ORDER BY at, id LIMIT ?", trace),
        }

    def _rows(self, query: str, trace: str) -> list[dict[str, Any]]:
        with closing(self._connect()) as conn:
            conn.row_factory = sqlite3.Row
            return [_shown(dict(row)) for row in conn.execute(query, (trace, _MOST_OF_A_TRACE))]

    def edges(self, *, since: datetime, tenant: str = "") -> list[dict[str, Any]]:
        """`{caller, callee, kind: call|event, count, errors, p50Ms, p95Ms}` of what began since then; of one tenant's
        traces alone, or of all."""
        query = _CALLS.format(of_tenant=_OF_TENANT if tenant else "")
        asked = {"since": int(since.timestamp() * 1e9), "tenant": tenant, "most": _MOST_CALLS}
        took: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
        errors: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        with closing(self._connect()) as conn:
            for *who, duration, error in conn.execute(query, asked):
                took[*who].append(duration)
                errors[*who] += error
        return [
            {
                **dict(zip(("caller", "callee", "kind"), who, strict=True)),
                "count": len(times),
                "errors": errors[who],
                "p50Ms": _percentile(times, 50),
                "p95Ms": _percentile(times, 95),
            }
            for who, times in sorted(took.items())
        ]


def _percentile(times: list[int], share: int) -> float:
    """In milliseconds."""
    return sorted(times)[(share * len(times) - 1) // 100] / 1e6


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"attributes": json.loads(row["attributes"])}
    if "start" in row:
        told |= {
            "start": _time(row["start"]),
            "durationMs": row["duration"] / 1e6,
            "status": "error" if row["error"] else "ok",
        }
    else:
        told |= {"at": _time(row["at"])}
    return {name: value for name, value in row.items() if name not in {"id", "trace", "duration", "error"}} | told


def _time(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat()
