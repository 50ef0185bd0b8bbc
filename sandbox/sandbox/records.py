"""Records that outlive the process: one append-only file of JSON lines per outside party."""

import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path


def utc_now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def stamp(at: datetime) -> str:
    """A UTC time as text that sorts as the times do."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Journal:
    """An append-only file. A line is with the kernel when `append` returns, so killing the process loses nothing."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._claim()
        self._size = self._mend()

    def append(self, line: bytes) -> None:
        """Adds one line, which holds no line feed itself; raises OSError and keeps nothing of it on a full disk."""
        written = os.write(self._fd, line + b"\n")
        if written != len(line) + 1:
            os.ftruncate(self._fd, self._size)
            raise OSError(f"{self._path} took only a part of a record")
        self._size += written

    def replay(self) -> Iterator[bytes]:
        """Every line, oldest first."""
        with self._path.open("rb") as lines:
            for line in lines:
                yield line[:-1]

    def forget(self) -> None:
        """Empties the file."""
        os.ftruncate(self._fd, 0)
        self._size = 0

    def close(self) -> None:
        """Gives the file back."""
        os.close(self._fd)

    def _claim(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise RuntimeError(f"{self._path} is in use by another sandbox") from None

    def _mend(self) -> int:
        """Cuts off a last line that a kill left half written: its caller was never answered."""
        size = os.fstat(self._fd).st_size
        end = size
        block = 64 * 1024
        while end > 0:
            start = max(0, end - block)
            feed = os.pread(self._fd, end - start, start).rfind(b"\n")
            if feed >= 0:
                end = start + feed + 1
                break
            end = start
        if end != size:
            os.ftruncate(self._fd, end)
        return end
