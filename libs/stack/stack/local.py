"""One machine: where Dapr's programs are, which ports are free, and how Redis, placement and scheduler are started
apart from anyone else's. `stack.processes` starts and ends them."""

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
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HOST = "127.0.0.1"
OLDEST = {"dapr": (1, 16), "daprd": (1, 18)}
# They live beside daprd and say no version of their own.
COMPANIONS = ("placement", "scheduler", "sentry")
# As components/ names it; each run puts a full path in its place.
SECRETS_FILE = "var/secrets.json"
POSTGRES_USER = "postgres"  # as Debian's package makes it
# Kept clear of the ports the kernel lends to outgoing connections (32768 and up on Linux, 49152 elsewhere): an app
# that is killed must find its port free when it starts again.
PORTS = range(20_000, 32_000)

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
        on_path = shutil.which(name)
        found = [p for p in (Path(on_path) if on_path else None, home / name) if p and new_enough(name, p)]
    return next((p for p in (*found, tools_bin / name) if os.access(p, os.X_OK)), None)


@cache
def new_enough(name: str, program: Path) -> bool:
    """Whether the program runs and says a version that the components here were written for."""
    if not os.access(program, os.X_OK):
        return False
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = re.search(r"(\d+)\.(\d+)\.\d+", said.stdout)
    return bool(version) and (int(version[1]), int(version[2])) >= OLDEST[name]


def need_program(name: str, tools_bin: Path) -> Path:
    """Raises `LocalError` when `make setup` has not been here."""
    program = Path(shutil.which(name) or "") if name == "redis-server" else find_program(name, tools_bin)
    if program is None or not program.is_file():
        raise LocalError(f"{name} is missing: run `make setup`")
    return program


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs: from PATH, else the newest one where Debian keeps them beside it."""
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    kept = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((program.parent for program in kept), key=lambda folder: int(folder.parent.name), default=None)


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


def wait_until(
    condition: Callable[[], bool], *, within: float, what: str, broken: Callable[[], str | None] = lambda: None
) -> None:
    """Waits for a condition; `broken` ends the wait early by saying why it can no longer come true."""
    deadline = time.monotonic() + within
    while not condition():
        if reason := broken():
            raise LocalError(f"{what} {reason}")
        if time.monotonic() > deadline:
            raise LocalError(f"{what} is not ready within {within:.0f} s")
        time.sleep(0.05)


def tail(log: Path, lines: int = 25) -> str:
    """The end of a log, empty when there is none."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


# --- what the sidecars stand on -------------------------------------------------------------------------------------


def redis_command(program: Path, *, port: int, data: Path) -> list[str]:
    data.mkdir(parents=True, exist_ok=True)
    # Appends to disk, once a second, and takes no snapshots: the durability the figures in the documents stand on.
    durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    return [str(program), "--port", str(port), "--bind", HOST, "--dir", str(data), *durable, "--loglevel", "warning"]


def initdb_command(*, data: Path) -> list[str]:
    # What it makes need not be on disk yet: nobody has been promised anything.
    how = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    return _postgres("initdb", f"--pgdata={data}", f"--username={POSTGRES_USER}", *how)


def postgres_command(*, port: int, data: Path) -> list[str]:
    settings = (f"listen_addresses={HOST}", "unix_socket_directories=")
    return _postgres("postgres", "-D", str(data), "-p", str(port), *(word for one in settings for word in ("-c", one)))


def _postgres(program: str, *words: str) -> list[str]:
    if (folder := find_postgres()) is None:
        raise LocalError("PostgreSQL is missing: run `make setup`")
    # It doesn't run as root.
    user = ("setpriv", f"--reuid={POSTGRES_USER}", f"--regid={POSTGRES_USER}", "--clear-groups")
    return [*(user if os.geteuid() == 0 else ()), str(folder / program), *words]


@dataclass(frozen=True, kw_only=True)
class Sentry:
    """Dapr's certificate authority, for a run with mTLS. It makes its certificates in the folder at its first start."""

    port: int
    folder: Path

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def trust_anchors(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def flags(self) -> list[str]:
        """What placement and scheduler are told of it."""
        return ["--tls-enabled", "--sentry-address", self.address, "--trust-anchors-file", str(self.trust_anchors)]


def sentry_command(program: Path, sentry: Sentry, *, config: Path) -> list[str]:
    sentry.folder.mkdir(parents=True, exist_ok=True)
    # It doesn't start without a configuration file; one that says nothing of certificates lets it sign for everyone.
    return [
        str(program),
        *("--listen-address", HOST, "--port", str(sentry.port), "--config", str(config)),
        *("--healthz-listen-address", HOST, "--healthz-port", str(free_port())),
        *("--issuer-credentials", str(sentry.folder), "--enable-metrics=false", "--log-level", "warn"),
    ]


def placement_command(program: Path, *, port: int, sentry: Sentry | None = None) -> list[str]:
    # Beside its own port it listens on three more, which two runs on one machine would fight over.
    return [
        str(program),
        *("--listen-address", HOST, "--port", str(port)),
        *("--healthz-listen-address", HOST, "--healthz-port", str(free_port())),
        *("--initial-cluster", f"dapr-placement-0={HOST}:{free_port()}"),
        *("--enable-metrics=false", "--log-level", "warn"),
        *(sentry.flags if sentry else ()),
    ]


def scheduler_command(program: Path, *, port: int, data: Path, sentry: Sentry | None = None) -> list[str]:
    data.mkdir(parents=True, exist_ok=True)
    return [
        str(program),
        *("--listen-address", HOST, "--port", str(port), "--override-broadcast-host-port", f"{HOST}:{port}"),
        *("--healthz-listen-address", HOST, "--healthz-port", str(free_port())),
        *("--etcd-data-dir", str(data), "--etcd-client-listen-address", HOST, "--etcd-client-port", str(free_port())),
        *("--etcd-initial-cluster", f"dapr-scheduler-server-0=http://{HOST}:{free_port()}"),
        *("--identity-directory-write", str(data.with_name(f"{data.name}-identity"))),
        *("--enable-metrics=false", "--log-level", "warn"),
        *(sentry.flags if sentry else ()),
    ]
