"""One machine: finding Dapr's programs, starting them and Redis apart from anyone else's, and ending them all.

Every process carries `BREWLINE_RUN=<the run's directory>` in its environment, and so do its children: what is left of
a run is found by that marker, whoever started it and however its parent died.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

import psutil
import yaml

MARKER = "BREWLINE_RUN"
HOST = "127.0.0.1"
OLDEST = {"dapr": (1, 16), "daprd": (1, 18)}
# They live beside daprd and say no version of their own.
COMPANIONS = ("placement", "scheduler", "sentry")
# Kept clear of the ports the kernel lends to outgoing connections (32768 and up on Linux, 49152 elsewhere): an app
# that is killed must find its port free when it starts again.
PORTS = range(20_000, 32_000)
# The end comes in this order: the apps while their sidecars still answer, then those, then what they stand on.
SIDECARS = {"dapr", "daprd"}
INFRASTRUCTURE = {"redis-server", "placement", "scheduler", "sentry"}
PATIENCE = 5.0

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


# --- ports and waiting ----------------------------------------------------------------------------------------------


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port nobody listens on, never the same one twice in this process."""
    for port in random.sample(PORTS, 500):
        if port not in _given and port_is_free(port):
            _given.add(port)
            return port
    raise LocalError(f"no free port between {PORTS.start} and {PORTS.stop}")


def answers(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


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


# --- processes ------------------------------------------------------------------------------------------------------


class Processes:
    """What one run has started: every process under the marker of the run's directory, with a log of its own."""

    def __init__(self, run: Path, *, logs: Path, cwd: Path) -> None:
        self.run = run.resolve()
        self.logs = logs
        self.cwd = cwd
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self.logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        # A session of its own: a Ctrl-C at the terminal reaches only the one who started it, and the end keeps its order.
        with self.log(name).open("ab") as log:
            self.started[name] = subprocess.Popen(  # noqa: S603
                [str(word) for word in command],
                cwd=self.cwd,
                env=marked(self.run, env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def wait_for(self, name: str, condition: Callable[[], bool], *, within: float) -> None:
        """Waits until the process does what it was started for; an error carries the end of its log."""

        def ended() -> str | None:
            code = self.started[name].poll()
            return None if code is None else f"ended with code {code}"

        try:
            wait_until(condition, within=within, what=name, broken=ended)
        except LocalError as error:
            raise LocalError(f"{error}; {self.log(name)} ends:\n{tail(self.log(name))}") from None

    def stop(self, name: str, *, kill: bool = False) -> None:
        """SIGTERM, and SIGKILL after 5 s; `kill` leaves out the first."""
        process = self.started[name]
        if process.poll() is None:
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end(self) -> None:
        sweep(self.run)
        for process in self.started.values():
            process.wait()


def marked(run: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of every process of a run."""
    outside = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    local = ",".join(filter(None, [outside, "localhost", HOST]))
    # Sidecars tell each other where they are: on this machine that is loopback, whatever network it is in.
    own = {MARKER: str(run), "DAPR_HOST_IP": HOST, "NO_PROXY": local, "no_proxy": local}
    return {**os.environ, **own, **env}


def survivors(run: Path) -> list[psutil.Process]:
    """Every living process of the run, wherever it hangs in the process tree."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and belongs(process, run)]


def belongs(process: psutil.Process, run: Path) -> bool:
    try:
        if process.name() == "redis-server":  # it writes its title over its environment, but stands in its data
            return Path(process.cwd()).is_relative_to(run)
        return process.environ().get(MARKER) == str(run)
    except (psutil.Error, OSError):  # another user's, or gone meanwhile
        return False


def sweep(run: Path) -> None:
    """Ends every process of the run, gently first, and returns when none is left."""
    for later in (SIDECARS | INFRASTRUCTURE, INFRASTRUCTURE, set[str]()):
        end_all([process for process in survivors(run) if name_of(process) not in later])
    while left := survivors(run):  # started by one of those we ended, in its last moments
        end_all(left)


def end_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        _signal(process, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(processes, timeout=PATIENCE)
    for process in stubborn:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=PATIENCE)


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


class Reaper:
    """Ends the run when this process dies in a way that lets it end nothing itself, SIGKILL included.

    A small process holds the other end of a pipe: the pipe closes with us, whatever happens.
    """

    def __init__(self, run: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "chassis.local", str(run.resolve())], stdin=subprocess.PIPE, start_new_session=True
        )

    def dismiss(self) -> None:
        """The run lives on without us, or is over."""
        pipe = cast("IO[bytes]", self._process.stdin)
        try:
            pipe.write(b"dismissed")
            pipe.close()
        except BrokenPipeError:
            pass
        self._process.wait()


def reap(run: Path) -> None:
    """The reaper's own side."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() != b"dismissed":
        sweep(run)


# --- what the sidecars stand on -------------------------------------------------------------------------------------


def redis_command(program: Path, *, port: int, data: Path) -> list[str]:
    data.mkdir(parents=True, exist_ok=True)
    # Appends to disk, once a second, and takes no snapshots: the durability the figures in the documents stand on.
    durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    return [str(program), "--port", str(port), "--bind", HOST, "--dir", str(data), *durable, "--loglevel", "warning"]


def placement_command(program: Path, *, port: int) -> list[str]:
    # Beside its own port it listens on three more, which two runs on one machine would fight over.
    return [
        str(program),
        *("--listen-address", HOST, "--port", str(port)),
        *("--healthz-listen-address", HOST, "--healthz-port", str(free_port())),
        *("--initial-cluster", f"dapr-placement-0={HOST}:{free_port()}"),
        *("--enable-metrics=false", "--log-level", "warn"),
    ]


def scheduler_command(program: Path, *, port: int, data: Path) -> list[str]:
    data.mkdir(parents=True, exist_ok=True)
    return [
        str(program),
        *("--listen-address", HOST, "--port", str(port), "--override-broadcast-host-port", f"{HOST}:{port}"),
        *("--healthz-listen-address", HOST, "--healthz-port", str(free_port())),
        *("--etcd-data-dir", str(data), "--etcd-client-listen-address", HOST, "--etcd-client-port", str(free_port())),
        *("--etcd-initial-cluster", f"dapr-scheduler-server-0=http://{HOST}:{free_port()}"),
        *("--enable-metrics=false", "--log-level", "warn"),
    ]


def render(source: Path, target: Path, *, addresses: Mapping[str, str]) -> None:
    """Copies the components with other addresses, and lets the sidecars find each other through a file of this run.

    The default of a single machine, mDNS, would find the sidecars of every run on the network that has the same ids.
    """
    shutil.rmtree(target, ignore_errors=True)
    names = target / "names" / "names.db"
    names.parent.mkdir(parents=True)
    for file in sorted(source.glob("*.yaml")):
        text = file.read_text()
        for old, new in addresses.items():
            text = text.replace(old, new)
        documents = [cast("dict[str, Any]", document) for document in yaml.safe_load_all(text) if document]
        for document in documents:
            if document["kind"] == "Configuration":
                document["spec"]["nameResolution"] = name_resolution(names)
        (target / file.name).write_text(yaml.safe_dump_all(documents, sort_keys=False))


def name_resolution(database: Path) -> dict[str, Any]:
    # Long intervals: on a busy machine a late renewal must not make an app unknown, and a sidecar that starts again
    # takes its old address over at once.
    tuning = {"updateInterval": "60s", "timeout": "10s", "busyTimeout": "5s"}
    return {
        "component": "sqlite",
        "version": "v1",
        "configuration": {"connectionString": f"file:{database}", **tuning},
    }


if __name__ == "__main__":
    reap(Path(sys.argv[1]))
