"""Dapr's programs, Prometheus, an S3 server and Kubernetes: found here, else built from the Go modules below `tools`.
For `tools/setup.sh`, which builds while the Python packages are still on their way: nothing here needs one.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stack import local

ROOT = Path(__file__).resolve().parent.parent
TOOLS_BIN = ROOT / "tools" / "bin"
SOURCE = TOOLS_BIN / "source"
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}


@dataclass(frozen=True, kw_only=True)
class Module:
    """A Go module below `tools` and what is built from it. `packages` and `minutes` are of a fresh machine with two
    cores, for the line that tells how far it is. `components` are the files by which daprd registers what it can
    load."""

    folder: Path
    programs: dict[str, str]
    version: str
    packages: int
    minutes: int
    tags: str = ""
    components: tuple[Path, ...] = ()
    target: Path = TOOLS_BIN

    def command(self, names: list[str], target: Path) -> list[str]:
        # Without the version a program could not say which one it is.
        flags = ["-trimpath", *(["-tags", self.tags] if self.tags else []), "-ldflags", f"-s -w -X {self.version}"]
        return ["go", "build", "-v", *flags, "-o", f"{target}/", *(self.programs[name] for name in names)]

    def digest(self) -> str:
        """What the built programs depend on: a new pin, component or flag means a new build."""
        files = [*sorted(self.folder.rglob("*.*")), *(file for file in self.components if file.parent != self.folder)]
        sources = [file.read_bytes() for file in files]
        return hashlib.sha256(b"".join([*sources, " ".join(self.command([], Path())).encode()])).hexdigest()

    def present(self, name: str) -> bool:
        found = local.find_program(name, self.target)
        if found != self.target / name:
            return found is not None
        return self.stamp(name).exists() and self.stamp(name).read_text() == self.digest()

    def stamp(self, name: str) -> Path:
        return self.target / f".{name}.stamp"


RUNTIME = Module(
    folder=ROOT / "tools" / "dapr" / "runtime",
    programs={name: f"github.com/dapr/dapr/cmd/{name}" for name in ("daprd", "placement", "scheduler", "sentry")},
    version="github.com/dapr/dapr/pkg/buildinfo.version=1.18.2",
    packages=1840,
    minutes=5,
    components=(ROOT / "tools" / "dapr" / "runtime" / "components.go",),
)
# Only for `make test-scale`: what k8s/overlays/production declares besides takes 13 MB more in every sidecar.
PRODUCTION = replace(
    RUNTIME,
    programs={"daprd": RUNTIME.programs["daprd"]},
    packages=200,
    minutes=2,
    components=(*RUNTIME.components, ROOT / "tools" / "dapr" / "production" / "components.go"),
    target=TOOLS_BIN / "production",
)
# Only for who types `dapr run`.
CLI = Module(
    folder=ROOT / "tools" / "dapr" / "cli",
    programs={"dapr": "github.com/dapr/cli"},
    version="main.version=1.16.5",
    packages=1700,
    minutes=4,
)

# Only for the test of `observability/`: without its pages, and without all that finds services by itself.
PROMETHEUS = Module(
    folder=ROOT / "tools" / "prometheus",
    programs={name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("prometheus", "promtool")},
    version="github.com/prometheus/common/version.Version=3.13.5",
    packages=1080,
    minutes=3,
    tags="remove_all_sd",
)
# Only for the test of a back office over a bucket.
S3 = Module(
    folder=ROOT / "tools" / "versitygw",
    programs={"versitygw": "github.com/versity/versitygw/cmd/versitygw"},
    version="main.Version=1.8.0",
    packages=590,
    minutes=3,
)

KUBERNETES = "k8s.io/component-base/version.git"
# Only for the cluster of tests/k8s: Kubernetes, what it stands on, and helm, which installs Dapr there.
CLUSTER = Module(
    folder=ROOT / "tools" / "cluster",
    programs={
        **{
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kube-proxy",
                "kubelet",
                "kubectl",
            )
        },
        "helm": "helm.sh/helm/v3/cmd/helm",
        **{name: f"./{name}" for name in ("etcd", "coredns", "pause")},
    },
    version=f"{KUBERNETES}Version=v1.34.4 -X {KUBERNETES}Major=1 -X {KUBERNETES}Minor=34",
    packages=2600,
    minutes=9,
)
# What Dapr has in a cluster beside the programs above.
CONTROL_PLANE = Module(
    folder=RUNTIME.folder,
    programs={name: f"github.com/dapr/dapr/cmd/{name}" for name in ("operator", "injector")},
    version=RUNTIME.version,
    packages=1400,
    minutes=1,
)


def get(module: Module) -> None:
    missing = [name for name in module.programs if not module.present(name)]
    if not missing:
        return
    print(
        f"setup: {', '.join(missing)}: built here, once; about {module.minutes} minutes on 2 cores. "
        "Stopped, it goes on where it was.",
        flush=True,
    )
    # Under a folder of its own until it is whole: a program in `tools/bin` is always a finished one.
    unfinished = TOOLS_BIN / ".unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    build(module, missing, unfinished)
    for name in missing:
        module.target.mkdir(exist_ok=True)
        (unfinished / Path(module.programs[name]).name).rename(module.target / name)
        module.stamp(name).write_text(module.digest())


def build(module: Module, names: list[str], target: Path) -> None:
    command = module.command(names, target)
    if module.components:
        command[2:2] = ["-modfile", str(own_components(module.components))]
    process = subprocess.Popen(
        command,
        cwd=module.folder,
        env={**os.environ, **GO_ENVIRONMENT},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stderr or []), daemon=True)
    reader.start()
    try:
        show_progress(process, said, module.packages)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    reader.join()
    if process.returncode != 0:
        raise local.LocalError(f"{', '.join(names)} could not be built; go's last words:\n{''.join(said[-15:])}")


def own_components(components: Sequence[Path]) -> Path:
    """A go.mod by which Dapr is a copy of its module that has our files in the place of the one that asks for a tag:
    `allcomponents` takes three times as long. The module cache is read-only, and go refuses overlays on it."""
    _, module = dapr_module()
    copy = SOURCE / "dapr"
    shutil.rmtree(copy, ignore_errors=True)
    for file in module.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(module)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    registered = copy / "cmd" / "daprd" / "components"
    (registered / "zz_notag.go").unlink()
    for file in components:
        shutil.copyfile(file, registered / f"{file.parent.name}.go")
    shutil.copyfile(RUNTIME.folder / "go.sum", SOURCE / "dapr.sum")
    # A relative path, from where go.mod is: the program tells it to whoever asks how it was built.
    replace = f"\nreplace github.com/dapr/dapr => {os.path.relpath(copy, RUNTIME.folder)}\n"
    (SOURCE / "dapr.mod").write_text((RUNTIME.folder / "go.mod").read_text() + replace)
    return SOURCE / "dapr.mod"


def dapr_module() -> tuple[str, Path]:
    """Version and folder of the Dapr release that `tools/dapr` pins, downloaded where it is missing (seconds)."""
    answer = json.loads(go("mod", "download", "-json", "github.com/dapr/dapr", folder=RUNTIME.folder))
    return answer["Version"], Path(answer["Dir"])


def go(*arguments: str, folder: Path) -> str:
    if not shutil.which("go"):
        raise local.LocalError(
            "Go is missing: install Go 1.21 or newer and what is missing is built here. "
            "After `dapr init` (Dapr CLI 1.16 or newer) less of it is."
        )
    done = subprocess.run(["go", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise local.LocalError(f"`go {' '.join(arguments)}` failed in {folder}: {done.stderr.strip()}")
    return done.stdout


def show_progress(process: subprocess.Popen[str], said: list[str], packages: int) -> None:
    """A line that counts on a terminal, a line now and then elsewhere."""
    begun, shown, terminal = time.monotonic(), 0.0, sys.stdout.isatty()
    while process.poll() is None:
        time.sleep(0.2)
        elapsed = time.monotonic() - begun
        if elapsed - shown > (0.5 if terminal else 15):
            shown = elapsed
            print(progress(said, packages, elapsed), end="\r" if terminal else "\n", flush=True)
    print(progress(said, packages, time.monotonic() - begun), flush=True)


def lay_out_for_the_cli() -> None:
    """daprd where the CLI looks below `tools/bin`, its `runtimePath`, as `dapr init` lays it below the home folder."""
    laid = TOOLS_BIN / ".dapr" / "bin" / "daprd"
    laid.parent.mkdir(parents=True, exist_ok=True)
    laid.unlink(missing_ok=True)
    laid.symlink_to((local.find_program("daprd", TOOLS_BIN) or TOOLS_BIN / "daprd").resolve())


def progress(said: list[str], packages: int, elapsed: float) -> str:
    downloads = sum(line.startswith("go: downloading") for line in said)
    minutes, seconds = divmod(int(elapsed), 60)
    compiled = f"{len(said) - downloads} of about {packages} packages compiled"
    return f"setup: {downloads} modules fetched, {compiled}, {minutes}:{seconds:02}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    modules = {"runtime": [RUNTIME], "production": [PRODUCTION], "cli": [CLI], "prometheus": [PROMETHEUS], "s3": [S3]}
    modules["cluster"] = [RUNTIME, CLUSTER, CONTROL_PLANE]
    parser.add_argument("module", nargs="?", choices=modules, default="runtime")
    wanted = modules[parser.parse_args().module]
    try:
        for module in wanted:
            get(module)
        if CLI in wanted:
            lay_out_for_the_cli()
    except local.LocalError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: stopped; the next run goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
