"""Templates, one folder each (`<name>/subject.txt`, `body.txt`, `body.html`), compiled once, rendered sandboxed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateError, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

FOLDER = Path(__file__).parent / "templates"
_PARTS = ("subject.txt", "body.txt", "body.html")
_LONGEST_SUBJECT = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    subject: str
    text: str
    html: str


class NotRenderable(Exception):
    """There is no such template, or it asks for what its context does not have. Says no personal data."""


class Templates:
    def __init__(self, folder: Path = FOLDER) -> None:
        environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(folder),
            autoescape=select_autoescape(["html"], default=False),
            undefined=StrictUndefined,
            auto_reload=False,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._compiled: dict[str, list[Template]] = {
            found.name: [environment.get_template(f"{found.name}/{part}") for part in _PARTS]
            for found in sorted(folder.iterdir())
            if found.is_dir()
        }

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._compiled)

    def render(self, name: str, context: Mapping[str, Any]) -> Rendered:
        if (compiled := self._compiled.get(name)) is None:
            raise NotRenderable(f"no template {name}")
        try:
            subject, text, html = (part.render(context) for part in compiled)
        except TemplateError as error:
            raise NotRenderable(f"template {name}: {type(error).__name__}") from error
        return Rendered(subject=one_line(subject), text=text, html=html)


def one_line(text: str) -> str:
    """Fit for a header: a customer's name may hold line breaks and other controls, which would start a new one."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:_LONGEST_SUBJECT]
