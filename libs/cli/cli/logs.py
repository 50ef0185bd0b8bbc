"""`brewline logs`: one stream, coloured by service."""

import time
from pathlib import Path

from cli import log_lines, screen
from cli.log_lines import LEVELS, Line
from stack.local import LocalError

_COLOURS = (
    "cyan",
    "magenta",
    "green",
    "blue",
    "yellow",
    "bright_cyan",
    "bright_magenta",
    "bright_green",
    "bright_blue",
)
_OF_LEVEL = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "dim"}
_PAUSE = 0.2  # seconds between two looks
_WIDTH = 22


def show(
    folder: Path, *, service: str, sidecars: bool, level: str, trace: str, last: int, follow: bool, as_json: bool
) -> int:
    """The last lines of them all, and with `follow` those that come, until Ctrl-C. Lines below `level` are left out."""
    least = LEVELS.index(level)

    def asked_for(line: Line) -> bool:
        known = LEVELS.index(line.level) if line.level in LEVELS else 1
        return known >= least and (not trace or line.trace_id == trace)

    read = log_lines.files(folder, service=service, sidecars=sidecars)
    if not read:
        others = ", ".join(sorted({log.name for log in log_lines.files(folder)}))
        mend = f"there are {others}" if others else "`brewline up` starts it all"
        raise LocalError(f"no log of {service or 'anything'} in {folder}: {mend}")
    found = [line for line in log_lines.in_order(read) if asked_for(line)]
    for line in found[-last:] if last else found:
        tell(line, as_json=as_json)
    while follow:
        time.sleep(_PAUSE)
        for line in log_lines.in_order(read):
            if asked_for(line):
                tell(line, as_json=as_json)
    return 0


def tell(line: Line, *, as_json: bool) -> None:
    if as_json:
        print(line.as_json(), flush=True)
        return
    style, facts = _OF_LEVEL.get(line.level, ""), line.facts()
    screen.line(
        (screen.local_time(line.at), "dim"),
        (f" {line.name:{_WIDTH}} ", colour(line.name)),
        (line.words, style or "bold"),
        (f"  {facts}" if facts else "", style),
    )


def colour(name: str) -> str:
    """The same one in every run; a sidecar has its app's."""
    return _COLOURS[sum(name.partition(".")[0].encode()) % len(_COLOURS)]
