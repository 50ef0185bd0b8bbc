"""`brewline new service`, in a copy of this tree: what is made passes as made; then the tutorial, step by step."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import machine
from stack import local
from stack.processes import scratch_home

pytestmark = pytest.mark.more
ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
# A step of the tutorial: a file and what stands in it, or what is typed.
STEP = re.compile(r'^```(?P<kind>sh|python)(?: title="(?P<file>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


class Copy:
    """This tree without its history and what is built, on ports of its own."""

    def __init__(self, folder: Path) -> None:
        """`tracked` is each file, as it was."""
        self.folder = folder
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        self.tracked = {name: (ROOT / name).read_bytes() for name in names if (ROOT / name).is_file()}
        for name in self.tracked:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        (folder / "tools" / "bin").symlink_to((ROOT / "tools" / "bin").resolve())
        apps = (*machine.apps(), "loyalty-service")
        variables = [machine.variable(app_id, what) for app_id in apps for what in ("PORT", "SIDECAR_PORT")]
        ports = {name: str(local.free_port()) for name in (*variables, "SANDBOX_SMTP_PORT")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "BREWLINE"))}
        path = f"{folder}/.venv/bin:{kept['PATH']}"
        self.env = kept | ports | {"PATH": path, "PYTHONDONTWRITEBYTECODE": ""}
        self.run("tools/setup.sh environment")

    def run(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", line],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def changed(self) -> set[str]:
        return {name for name, was in self.tracked.items() if (self.folder / name).read_bytes() != was}


@pytest.fixture
def copy() -> Iterator[Copy]:
    with scratch_home("new-service") as folder:
        yield Copy(folder)


@pytest.mark.timeout(1200)
def test_a_service_passes_as_made_and_every_step_of_the_tutorial_does_what_it_says(copy: Copy):
    """Its last ones start the service beside the others, and see that it has heard an order."""
    first, *others = STEP.finditer(TUTORIAL)
    assert 1 + len(others) == TUTORIAL.count("\n```") // 2

    copy.run(first["text"])
    components = {f"components/{name}.yaml" for name in ("endpoints", "pubsub", "secretstore", "statestore")}
    lists = {"dapr.yaml", "components/subscriptions.yaml", "k8s/base/kustomization.yaml"}
    production = {f"k8s/overlays/production/{name}.yaml" for name in ("autoscaling", "external-secrets")}
    assert copy.changed() == components | lists | production
    copy.run("make check")
    known = "tests/contracts/test_manifests.py tests/contracts/test_subscriptions.py tests/contracts/test_access.py"
    copy.run(f"make test-unit IN='services/loyalty {known} tests/docs/test_pages.py libs/cli/tests/test_doctor.py'")

    for step in others:
        if step["file"]:
            (copy.folder / step["file"]).write_text(step["text"])
        else:
            copy.run(step["text"])
    copy.run("ruff check services/loyalty && ruff format --check services/loyalty && pyright services/loyalty")
    copy.run("python tools/import_rules.py && python tools/contracts.py --check")
