"""Dapr as it is built here: with every component that is declared anywhere, and no other."""

import re
import subprocess
import sys
from pathlib import Path

import manifests
import programs
from stack import components

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS_GO = "tools/dapr/*/components.go"
REGISTERED = re.compile(r'(\w+)\.DefaultRegistry\.RegisterComponent(?:WithVersions)?\((?:[\w.]+, )?"([\w.-]+)"')
BLOCKS = "bindings|configuration|conversation|crypto|lock|middleware|nameresolution|pubsub|secretstores|state"
IN_A_TEST = re.compile(rf"\btype: ((?:{BLOCKS})\.[a-z0-9.-]+)")
# Where a Configuration says nothing of it: plain `dapr run` on one machine, and the cluster.
BY_DEFAULT = {"nameresolution.mdns": "dapr.yaml", "nameresolution.kubernetes": "k8s/"}


def registered() -> set[str]:
    """In the daprd of every day or, what only the production overlay declares, in that of `make test-scale`."""
    text = "".join(file.read_text() for file in programs.PRODUCTION.components)
    return {f"{block}.{name}" for block, name in REGISTERED.findall(text)}


def declared() -> dict[str, str]:
    """Each component that something here declares, and one place that does."""
    found = dict(BY_DEFAULT)
    objects = [*manifests.documents(manifests.COMPONENTS)]
    objects += [each for root in manifests.kustomizations() for each in manifests.render(root)]
    found |= {manifest["spec"]["type"]: file for file, manifest in objects if manifest["kind"] == "Component"}
    resolver = components.name_resolution(Path("names.db"))["component"]
    found[f"nameresolution.{resolver}"] = "libs/stack/stack/components.py"
    for folder in ("tests", "libs", "services", "sandbox"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            found |= dict.fromkeys(IN_A_TEST.findall(file.read_text()), str(file.relative_to(ROOT)))
    return found


def missing(wanted: dict[str, str], known: set[str]) -> list[str]:
    return [
        f"{name}, declared in {wanted[name]}, is not in the daprd that is built here: register it in {COMPONENTS_GO}"
        for name in sorted(wanted.keys() - known)
    ]


def test_every_component_that_is_declared_is_in_the_daprd_that_is_built_here():
    assert missing(declared(), registered()) == []


def test_a_component_that_is_missing_is_told_with_its_place_and_its_remedy():
    (told,) = missing({"state.redis": "a.yaml", "state.postgresql": "b.yaml"}, {"state.redis"})
    assert re.fullmatch(r"state\.postgresql, declared in b\.yaml, .*: register it in tools/dapr/.*components\.go", told)


def test_the_daprd_that_is_built_here_has_no_component_that_nothing_declares():
    assert registered() - declared().keys() == set()


def test_dapr_is_built_before_any_package_is_installed():
    """`make setup` builds beside the installation of the Python packages."""
    bare = [sys.executable, "-S", "tools/programs.py", "--help"]
    done = subprocess.run(bare, cwd=ROOT, env={"PYTHONPATH": "libs/stack"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_component_means_another_build(tmp_path: Path):
    def digest(text: str) -> str:
        (tmp_path / "components.go").write_text(text)
        module = programs.Module(folder=tmp_path, programs={}, version="v", packages=1, minutes=1)
        return module.digest()

    assert digest("one") != digest("two")
    assert programs.RUNTIME.digest() != programs.PRODUCTION.digest()
    assert digest("one") == digest("one")
