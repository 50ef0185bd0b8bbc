"""Templates as they are written, and those that ship: `shipped/templates/<category>/<name>/<locale>/<part's file>`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parents[1] / "shipped" / "templates"
PARTIALS = SHIPPED / "_partials"  # what a template may include or extend
_FILES = {"subject": "subject.txt", "text": "body.txt", "html": "body.html", "sms": "sms.txt", "push": "push.txt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A template as it is written, each part a Jinja source; "" where it has none for that use."""

    subject: str = ""
    text: str = ""
    html: str = ""
    sms: str = ""
    push: str = ""


PARTS = tuple(part.name for part in fields(Source))


@cache
def shipped() -> Mapping[tuple[str, str], Mapping[str, Source]]:
    """(category, name) → locale → the template."""
    return {
        _key(folder): {path.name: _source(path) for path in sorted(folder.iterdir()) if path.is_dir()}
        for folder in _folders()
    }


@cache
def samples() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """(category, name) → the data of an event that the template is for: its `sample.json`."""
    return {_key(folder): json.loads((folder / "sample.json").read_text()) for folder in _folders()}


def _folders() -> list[Path]:
    return sorted(path.parent for path in SHIPPED.glob("*/*/sample.json"))


def _key(folder: Path) -> tuple[str, str]:
    return folder.parent.name, folder.name


def _source(folder: Path) -> Source:
    return Source(**{part: (folder / file).read_text() for part, file in _FILES.items() if (folder / file).exists()})
