"""What a command prints: a table for people, JSON for programs. Colours where a terminal shows them (NO_COLOR)."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

GOOD = {"ready", "running", "confirmed", "delivered", "completed", "succeeded", "sent", "ok", "captured"}
BAD = {"ended", "not ready", "not running", "failed", "payment_failed", "declined", "compensation_failed", "broken"}
_WIDE = 400  # where no terminal is: whoever reads a pipe wants whole lines


@cache
def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, soft_wrap=not sys.stdout.isatty())


def rows(found: Sequence[Mapping[str, Any]], *, as_json: bool, nothing: str = "Nothing there.") -> None:
    """Columns are the keys of the first row, in their order."""
    if as_json:
        print(json.dumps(found, default=str))
    elif not found:
        print(nothing)
    else:
        table = Table(box=None, header_style="bold", pad_edge=False)
        names = list(found[0])
        for name in names:
            table.add_column(name, overflow="fold", justify="right" if is_number(found[0][name]) else "left")
        for row in found:
            table.add_row(*(cell(row.get(name)) for name in names))
        console().print(table)


def cell(value: Any) -> Text:
    """A status has a colour of its own."""
    text = "" if value is None else local_time(value) if isinstance(value, datetime) else str(value)
    return Text(text, style="green" if text in GOOD else "red" if text in BAD else "")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def local_time(at: datetime) -> str:
    """To the millisecond, on this machine's clock."""
    return at.astimezone().strftime("%H:%M:%S.%f")[:-3]


def line(*parts: tuple[str, str] | str) -> None:
    """One line of parts, each a text or a text with its style; seen at once, in a pipe too."""
    console().print(Text.assemble(*parts), soft_wrap=True)
    sys.stdout.flush()


def styled(text: str) -> tuple[str, str]:
    return text, "green" if text in GOOD else "red" if text in BAD else ""
