"""The container engine of this machine: what answers of docker, podman and buildah. Needs no package."""

import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stack.local import LocalError

# What each is asked to show that it works: `docker` may be a client whose daemon is nowhere.
QUESTIONS = {"docker": "version", "podman": "info", "buildah": "info"}
# What podman gives a container unless it is told; where this machine allows less, no container would start.
OPEN_FILES = 1_048_576
# More than the monitor that podman starts for each container has itself, a container could not get.
PROCESSES = 32_768


@dataclass(frozen=True, kw_only=True)
class Engine:
    name: str
    program: Path

    def run(self, *words: str | Path) -> str:
        """What it prints. Raises `LocalError` with its last words."""
        done = self.ask(*words)
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip()[-1500:]
            raise LocalError(f"`{self.name} {' '.join(str(word) for word in words[:2])} …` failed:\n{last}")
        return done.stdout.strip()

    def ask(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.program, *words], capture_output=True, text=True, check=False)  # noqa: S603

    def has(self, image: str) -> bool:
        """Whether the image is on this machine."""
        return bool(self.ask("images", "--quiet", image).stdout.strip())

    def limits(self) -> dict[str, int]:
        """What a container may have of this machine, by name of the limit; empty where the engine's own will do."""
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        _, processes = resource.getrlimit(resource.RLIMIT_NPROC)
        if self.name == "docker" or files == resource.RLIM_INFINITY or files >= OPEN_FILES:
            return {}
        return {"nofile": files, "nproc": min(processes, PROCESSES)}


def find(named: str = "") -> Engine | None:
    """The engine that is named, else the first that works."""
    for name in (named,) if named else QUESTIONS:
        program = shutil.which(name)
        if program and _works(name, program):
            return Engine(name=name, program=Path(program))
    return None


def need(named: str = "") -> Engine:
    if named and named not in QUESTIONS:
        raise LocalError(f"ENGINE={named} is none of {', '.join(QUESTIONS)}")
    engine = find(named)
    if engine is None:
        fault = f"{named} does not work" if named else f"None of {', '.join(QUESTIONS)} works"
        raise LocalError(
            f"{fault} here: start the engine, or install podman (Debian, as root: tools/setup.sh containers)"
        )
    return engine


def _works(name: str, program: str) -> bool:
    words: Sequence[str] = (program, QUESTIONS[name])
    try:
        return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
