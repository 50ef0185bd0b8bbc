"""`make check`: import-linter with the rules of pyproject.toml, in which `services/*` stands for each service that is
there, and `services/*.domain` for that module of each which has one."""

import configparser
import subprocess
import sys
import tomllib
from tempfile import NamedTemporaryFile
from typing import Any, cast

from tree import ROOT, SERVICES

EACH = "services/*"


def main() -> int:
    written = configparser.ConfigParser()
    written.read_dict(rules((ROOT / "pyproject.toml").read_text()))
    with NamedTemporaryFile("w", suffix=".ini") as file:
        written.write(file)
        file.flush()
        return subprocess.run(
            [ROOT / ".venv/bin/lint-imports", "--config", file.name], cwd=ROOT, check=False
        ).returncode


def rules(pyproject: str) -> dict[str, dict[str, str]]:
    """As import-linter reads them from an INI file."""
    head = tomllib.loads(pyproject)["tool"]["importlinter"]
    contracts = {f"importlinter:contract:{number}": each for number, each in enumerate(head.pop("contracts"))}
    sections = {"importlinter": head} | contracts
    return {name: {key: text(value) for key, value in section.items()} for name, section in sections.items()}


def text(value: Any) -> str:
    """A list is a line each, after an empty one."""
    if not isinstance(value, list):
        return str(value)
    return "\n".join(["", *(name for word in cast("list[str]", value) for name in named(word))])


def named(word: str) -> list[str]:
    if not word.startswith(EACH):
        return [word]
    module = word.removeprefix(EACH)
    path = module.replace(".", "/")
    return [name + module for name in SERVICES if not path or (ROOT / f"services/{name}/{name}{path}.py").exists()]


if __name__ == "__main__":
    sys.exit(main())
