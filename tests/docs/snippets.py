"""The fenced blocks of README, docs/ and examples/. After its language a fence may say `skip="why"`, which a reader
never sees."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/*.md"),
        ROOT / "observability/README.md",
    ]
)
_FENCE = re.compile(
    r'^```(?P<language>\w*)(?: skip="(?P<skip>[^"]+)")?[^\n]*\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """`page` is a path below the repository's root; `skip` is why nobody runs it, or empty."""

    page: str
    language: str
    skip: str
    text: str

    @property
    def runs(self) -> bool:
        return self.language == "sh" and not self.skip


def snippets() -> list[Snippet]:
    return [
        Snippet(
            page=str(page.relative_to(ROOT)), language=found["language"], skip=found["skip"] or "", text=found["text"]
        )
        for page in PAGES
        for found in _FENCE.finditer(page.read_text())
    ]
