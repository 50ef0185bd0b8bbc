"""The logs of everything that runs here, as one stream in order of time: JSON lines of services, Dapr's own, Redis'."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LEVELS = ("debug", "info", "warning", "error", "critical")
_SHORT = {"warn": "warning", "fatal": "critical", "notset": "debug"}
_LOGFMT = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
_REDIS = re.compile(r"\d+:\w (\d+ \w+ \d+ [\d:.]+) [.\-*#] (.*)")
# Where each kind of line has its time, its words and its level.
_TIMES = ("timestamp", "at", "ts", "time", "Timestamp")
_WORDS = ("event", "msg", "message")
# Said by the columns already, or for programs alone.
_FOR_PROGRAMS = "level service logger span_id tenant tenant_name user_agent app_id instance scope type ver caller"
_UNSHOWN = {
    *_TIMES,
    *_WORDS,
    *_FOR_PROGRAMS.split(),
    "EventId",
    "ServiceName",
    "Metadata",
    "ExecutionId",
    "CorrelationId",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """`name` is whose log it stands in: an app, `<app>.sidecar`, redis and so on."""

    at: datetime
    name: str
    level: str
    words: str
    fields: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def trace_id(self) -> str:
        return str(self.fields.get("trace_id", ""))

    def facts(self, *, but: str = "") -> str:
        """The fields that a person reads, `name=value`."""
        unshown = _UNSHOWN | {but}
        shown = {name: value for name, value in self.fields.items() if name not in unshown and value is not None}
        return " ".join(
            f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in shown.items()
        )

    def as_json(self) -> str:
        head = {"at": self.at.isoformat(), "name": self.name, "level": self.level, "words": self.words}
        return json.dumps(head | {"fields": self.fields})


def parse(text: str, name: str, before: datetime) -> Line:
    """A line that says no time has that of the one `before`: the rest of a traceback, or what a program just prints."""
    if text.startswith("{"):
        try:
            return from_fields(json.loads(text), name, before)
        except ValueError:  # cut off, or no JSON at all
            return Line(at=before, name=name, level="info", words=text)
    if text.startswith("time="):
        return from_fields({key: unquoted(value) for key, value in _LOGFMT.findall(text)}, name, before)
    if found := _REDIS.match(text):
        # It alone tells the machine's own time.
        at = datetime.strptime(found[1], "%d %b %Y %H:%M:%S.%f").astimezone()
        return Line(at=at.astimezone(UTC), name=name, level="info", words=found[2])
    return Line(at=before, name=name, level="info", words=text)


def from_fields(fields: dict[str, Any], name: str, before: datetime) -> Line:
    level = str(fields.get("level", "info")).lower()
    words = next((str(fields[key]) for key in _WORDS if key in fields), "")
    if words == "integration.event":
        words = f"{fields.get('EventType')} {fields.get('Metadata', {}).get('target', '')}".strip()
        fields = {key: value for key, value in fields.items() if key not in {"EventType", "Timestamp"}}
    time = next((str(fields[key]) for key in _TIMES if key in fields), "")
    return Line(at=moment(time, before), name=name, level=_SHORT.get(level, level), words=words, fields=fields)


def moment(text: str, before: datetime) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return before


def unquoted(value: str) -> str:
    return value[1:-1].replace('\\"', '"').replace("\\\\", "\\") if value.startswith('"') else value


class LogFile:
    """One log, read on from where it was; one that was begun anew, from its beginning."""

    def __init__(self, path: Path) -> None:
        self.name = path.name.partition(".log")[0]
        self._path = path
        self._inode = self._offset = 0
        self._before = datetime.fromtimestamp(0, UTC)

    def more(self) -> Iterator[Line]:
        """Whole lines that came since."""
        try:
            opened = self._path.open("rb")
        except FileNotFoundError:
            return
        with opened:
            found = self._path.stat()
            if found.st_ino != self._inode or found.st_size < self._offset:
                self._inode, self._offset = found.st_ino, 0
            opened.seek(self._offset)
            for raw in opened:
                if not raw.endswith(b"\n"):
                    return
                self._offset += len(raw)
                if text := raw.decode(errors="replace").rstrip():
                    line = parse(text, self.name, self._before)
                    self._before = line.at
                    yield line


def files(folder: Path, *, service: str = "", sidecars: bool = False, older: bool = False) -> list[LogFile]:
    """Of the apps, or of one; with `sidecars` also theirs and of what they stand on; with `older` of the run before."""
    paths = sorted([*folder.glob("*.log"), *(folder.glob("*.log.old") if older else ())])
    return [LogFile(path) for path in paths if wanted(path.name.partition(".log")[0], service, sidecars)]


def wanted(name: str, service: str, sidecars: bool) -> bool:
    app, _, part = name.partition(".")
    infrastructure = app in {"redis", "placement", "scheduler", "sentry"}
    if service:
        return app in {service, f"{service}-service"} and (sidecars or not part)
    return sidecars or not (part or infrastructure)


def in_order(logs: Iterable[LogFile]) -> list[Line]:
    return sorted((line for log in logs for line in log.more()), key=lambda line: line.at)
