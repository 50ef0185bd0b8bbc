"""Dapr's programs, Redis and PostgreSQL, for `tools/setup.sh`: found on this machine, else built or installed."""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from stack import local, postgres

ROOT = Path(__file__).resolve().parent.parent
TOOLS_BIN = ROOT / "tools" / "bin"
SOURCES = ROOT / "tools" / "dapr"
VERSIONS = {"runtime": "github.com/dapr/dapr/pkg/buildinfo.version=1.18.2", "cli": "main.version=1.16.5"}


@dataclass(frozen=True, kw_only=True)
class Program:
    """One of Dapr's programs and where it is built: a module under `tools/dapr` and a package in it."""

    name: str
    module: str
    package: str

    def command(self, target: Path) -> list[str]:
        # `allcomponents` is what the published daprd is; without the version it could not say which one it is.
        flags = ["-trimpath", "-tags", "allcomponents", "-ldflags", f"-s -w -X {VERSIONS[self.module]}"]
        return ["go", "build", "-v", *flags, "-o", str(target), self.package]

    def digest(self) -> str:
        """What the built program depends on: a new pin or flag means a new build."""
        sources = [(SOURCES / self.module / name).read_bytes() for name in ("go.mod", "go.sum")]
        return hashlib.sha256(b"".join([*sources, " ".join(self.command(Path())).encode()])).hexdigest()

    def present(self) -> bool:
        found = local.find_program(self.name, TOOLS_BIN)
        if found != TOOLS_BIN / self.name:
            return found is not None
        return stamp_of(self.name).exists() and stamp_of(self.name).read_text() == self.digest()


PROGRAMS = [
    *(
        Program(name=name, module="runtime", package=f"github.com/dapr/dapr/cmd/{name}")
        for name in ("daprd", "placement", "scheduler", "sentry")
    ),
    Program(name="dapr", module="cli", package="github.com/dapr/cli"),
]


def stamp_of(name: str) -> Path:
    return TOOLS_BIN / f".{name}.stamp"


def get_dapr() -> None:
    missing = [program for program in PROGRAMS if not program.present()]
    if not missing:
        return
    if not shutil.which("go"):
        raise local.LocalError(
            "Dapr is missing: install Go 1.21 or newer and it is built here, "
            "or install the Dapr CLI (1.16 or newer) and run `dapr init`"
        )
    TOOLS_BIN.mkdir(parents=True, exist_ok=True)
    print("setup: building Dapr from tools/dapr, once; about 8 minutes on 2 cores. Stopped, it goes on where it was.")
    for number, program in enumerate(missing, start=1):
        build(program, f"setup: [{number}/{len(missing)}] {program.name}")


def build(program: Program, label: str) -> None:
    """Under a name of its own until it is whole: a program in `tools/bin` is always a finished one."""
    unfinished = TOOLS_BIN / f".{program.name}.unfinished"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    process = subprocess.Popen(
        program.command(unfinished),
        cwd=SOURCES / program.module,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stderr or []), daemon=True)
    reader.start()
    try:
        show_progress(process, said, label)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    reader.join()
    if process.returncode != 0:
        raise local.LocalError(f"{program.name} could not be built; go's last words:\n{''.join(said[-15:])}")
    unfinished.rename(TOOLS_BIN / program.name)
    stamp_of(program.name).write_text(program.digest())


def show_progress(process: subprocess.Popen[str], said: list[str], label: str) -> None:
    """A line that counts on a terminal, a line now and then elsewhere."""
    begun, shown, terminal = time.monotonic(), 0.0, sys.stdout.isatty()
    while process.poll() is None:
        time.sleep(0.2)
        elapsed = time.monotonic() - begun
        if elapsed - shown > (0.5 if terminal else 15):
            shown = elapsed
            print(progress(said, label, elapsed), end="\r" if terminal else "\n", flush=True)
    print(progress(said, label, time.monotonic() - begun), flush=True)


def progress(said: list[str], label: str, elapsed: float) -> str:
    downloads = sum(line.startswith("go: downloading") for line in said)
    minutes, seconds = divmod(int(elapsed), 60)
    return f"{label}: {downloads} modules fetched, {len(said) - downloads} packages compiled, {minutes}:{seconds:02}"


def get_redis(*, running_one_will_do: bool) -> None:
    if shutil.which("redis-server"):
        return
    port = int(os.environ.get("REDIS_PORT", "6379"))
    if running_one_will_do and "PONG" in local.redis_says(port, "PING"):
        return
    install("redis-server", brew="redis")


def get_postgres() -> None:
    """For the tests only."""
    if local.find_postgres() is None and not postgres.container_will_do():
        install("postgresql", brew="postgresql@16")


def install(package: str, *, brew: str) -> None:
    if not shutil.which("apt-get"):
        raise local.LocalError(f"{package} is missing: install it from your system's packages (brew install {brew})")
    if os.geteuid() != 0:
        raise local.LocalError(f"{package} is missing: run `sudo apt-get install {package}`")
    print(f"setup: installing {package} from the system's packages", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
        done = subprocess.run(["apt-get", "-qq", *words], env=environment, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise local.LocalError(f"`apt-get {' '.join(words)}` failed: {(done.stderr or done.stdout).strip()[-500:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("purpose", nargs="?", choices=["all", "run"], default="all")
    purpose = parser.parse_args().purpose
    try:
        get_redis(running_one_will_do=purpose == "run")
        if purpose == "all":
            get_postgres()
        get_dapr()
    except local.LocalError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: stopped; the next run goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
