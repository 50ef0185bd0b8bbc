"""The commands of README and of the how-tos as they stand there; README's in order, on other ports and with data in a
folder of their own."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest
from snippets import ROOT, snippets

from cli import machine
from stack import local
from stack.processes import scratch_home

pytestmark = pytest.mark.more


@pytest.fixture
def elsewhere() -> Iterator[dict[str, str]]:
    """The environment of a shell in which Brewline runs beside one that may run here."""
    with scratch_home("readme") as home:
        names = [machine.variable(app, kind) for app in machine.apps() for kind in ("PORT", "SIDECAR_PORT")]
        ports = {name: str(local.free_port()) for name in (*names, "SANDBOX_SMTP_PORT")}
        yield os.environ | ports | {"BREWLINE_HOME": str(home)}


def test_the_readme_works_as_it_is_typed(elsewhere: dict[str, str]):
    command_line, walk = (one.text for one in snippets() if one.page == "README.md" and one.runs)

    shown = typed(command_line, elsewhere)
    assert "confirmed" in shown

    shown = typed(walk, elsewhere)
    assert re.findall(r"HTTP/1.1 (\d+)", shown) == ["201", "201", "202"]
    assert '"status":"cancelled"' in shown


def test_what_a_how_to_ends_with_passes():
    pages = [one for one in snippets() if one.page.startswith("docs/how-to/") and one.runs]
    assert len(pages) > 3

    for one in pages:
        assert " passed" in typed(one.text, dict(os.environ)), one.page


def typed(commands: str, env: dict[str, str]) -> str:
    """What a shell shows that stops at the first command which fails."""
    for app in machine.apps().values():
        port = env.get(machine.variable(app.app_id, "PORT"), app.port)
        commands = commands.replace(f"localhost:{app.port}", f"localhost:{port}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail"], input=commands, env=env, cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
