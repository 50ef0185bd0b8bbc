"""One machine: where Dapr's programs are, which ports are free, and what answers on them. Needs no package."""

import fcntl
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import cache
from pathlib import Path

HOST = "127.0.0.1"
OLDEST = {"dapr": (1, 16), "daprd": (1, 18), "prometheus": (3, 0), "promtool": (3, 0)}
# They live beside daprd and say no version of their own.
COMPANIONS = ("placement", "scheduler", "sentry", "operator", "injector")
# As components/ names it; each run puts a full path in its place.
SECRETS_FILE = "var/secrets.json"
# Kept clear of the ports the kernel lends to outgoing connections (32768 and up on Linux, 49152 elsewhere): an app
# that is killed must find its port free when it starts again.
PORTS = range(20_000, 32_000)
ROOM = 4 * 2**30  # bytes; a container's memory-backed folder has 64 MB unless it was asked for more

_given: set[int] = set()


class LocalError(Exception):
    """What went wrong on this machine, in words a person can act on."""


# --- programs -------------------------------------------------------------------------------------------------------


def find_program(name: str, tools_bin: Path) -> Path | None:
    """A good enough Dapr program: from PATH or `dapr init`, else the one built into `tools_bin`, else nothing."""
    home = Path.home() / ".dapr" / "bin"
    if name in COMPANIONS:
        found = [home / name] if new_enough("daprd", home / "daprd") else []
    else:
        on_path = shutil.which(name) if name in OLDEST else None  # of the others, only what was built here
        found = [p for p in (Path(on_path) if on_path else None, home / name) if p and new_enough(name, p)]
    return next((p for p in (*found, tools_bin / name) if os.access(p, os.X_OK)), None)


def new_enough(name: str, program: Path) -> bool:
    """Whether the program runs and says a version that the components here were written for."""
    version = version_of(program)
    return version is not None and version[:2] >= OLDEST[name]


@cache
def version_of(program: Path) -> tuple[int, int, int] | None:
    """What it says of itself; None where it doesn't run, or says none."""
    if not os.access(program, os.X_OK):
        return None
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"(\d+)\.(\d+)\.(\d+)", said.stdout)
    return (int(version[1]), int(version[2]), int(version[3])) if version else None


def need_program(name: str, tools_bin: Path) -> Path:
    """Raises `LocalError` when `make setup` has not been here."""
    program = Path(shutil.which(name) or "") if name == "redis-server" else find_program(name, tools_bin)
    if program is None or not program.is_file():
        raise LocalError(f"{name} is missing: run `make {'dapr-cli' if name == 'dapr' else 'setup'}`")
    return program


# --- ports and waiting ----------------------------------------------------------------------------------------------


def port_is_free(port: int) -> bool:
    """Whether a server could listen there; what is left of closed connections doesn't count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port nobody listens on, never the same one twice while this process lives, here or in another test run."""
    for port in random.sample(PORTS, 500):
        if port not in _given and _reserved(port) and port_is_free(port):
            _given.add(port)
            return port
    raise LocalError(f"no free port between {PORTS.start} and {PORTS.stop}")


def _reserved(port: int) -> bool:
    """Locked for as long as this process lives: whoever gets a port listens there only a moment later."""
    folder = Path(tempfile.gettempdir(), f"brewline-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    lock = os.open(folder / str(port), os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    return True


def answers(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        # In the range of outgoing ports a probe can meet itself.
        return probe.connect_ex((HOST, port)) == 0 and probe.getsockname() != probe.getpeername()


def redis_says(port: int, *words: str) -> str:
    """Redis' answer to one command, as it came; empty when there is no Redis."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            return connection.recv(4096).decode(errors="replace")
    except OSError:
        return ""


def http_ok(url: str) -> bool:
    """Whether a GET is answered with 2xx within 2 s; proxies set for the outside are passed by."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            return 200 <= answer.status < 300
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], *, within: float, what: str) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise LocalError(f"{what} is not ready within {within:.0f} s")
        time.sleep(0.05)


def last_words(log: Path, lines: int = 25) -> str:
    """Where a log is, from here, and how it ends."""
    here = Path.cwd()
    shown = log.relative_to(here) if log.is_relative_to(here) else log
    words = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
    return "\n".join([f"{shown} ends:", *words]) if words else f"{shown} is empty"


def scratch() -> Path:
    """Where the data of a run goes that is thrown away after it: into memory where this machine keeps files there and
    has room, since Redis, etcd and the databases sync what they write. What a test kills is a process, not the machine.
    """
    memory = Path("/dev/shm")  # noqa: S108  everybody's, as the folder below is
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM:
        return memory
    return Path(tempfile.gettempdir())
