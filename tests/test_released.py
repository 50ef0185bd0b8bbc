"""The release before, on the database of this one: what a rollback meets, and the replicas that still serve while an
upgrade is rolled out. Its own unit tests run, in its own tree, on a schema that has today's migrations too.

`RELEASED` names another commit than the newest tag's. A clone without tags has nothing to compare with.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.more
ROOT = Path(__file__).resolve().parents[1]
SERVICES = ("order", "payment", "notification", "backoffice", "datasource")
# They compare the whole schema with the tables in its code, take it back, or begin from one of its versions.
OF_MIGRATIONS = "not migration and not migrating"


def git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tree of the newest tag, in which each service has today's migrations beside its own."""
    commit = os.environ.get("RELEASED") or git("describe", "--tags", "--abbrev=0").stdout.strip()
    if not commit:
        pytest.skip("no tag in this clone: git fetch --tags, or RELEASED=<commit>")
    tree = tmp_path_factory.mktemp("released") / "tree"
    added = git("worktree", "add", "--detach", str(tree), commit)
    assert added.returncode == 0, added.stderr
    try:
        for name in SERVICES:
            today, then = (root / "services" / name / name / "migrations" for root in (ROOT, tree))
            shutil.copytree(today, then, dirs_exist_ok=True)
        yield tree
    finally:
        git("worktree", "remove", "--force", str(tree))


def test_released_migrations_are_as_they_were(released: Path) -> None:
    changed = git("diff", "--name-only", "--diff-filter=MDR", git_head(released), "--", *_migrations()).stdout
    assert changed == "", "a released migration is never changed"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("service", SERVICES)
def test_the_release_before_serves_on_the_newest_schema(released: Path, service: str) -> None:
    packages = [*(released / "libs").iterdir(), *(released / "services").iterdir(), released / "sandbox"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, packages))}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:schemathesis", "-p", "no:cacheprovider"]
    tests = ["-m", "not integration and not more and not chaos", "-k", OF_MIGRATIONS, f"services/{service}"]
    ran = subprocess.run([*command, *tests], cwd=released, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]


def git_head(tree: Path) -> str:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tree, capture_output=True, text=True, check=True)
    return head.stdout.strip()


def _migrations() -> list[str]:
    return [f"services/{name}/{name}/migrations" for name in SERVICES]
