"""The processes of one run on this machine: started under a marker, and ended so that none is left.

Every process carries `BREWLINE_RUN=<the run's directory>` in its environment, and so do its children: what is left of
a run is found by that marker, whoever started it and however its parent died.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

import psutil

from stack.local import HOST, LocalError, last_words, scratch, wait_until

MARKER = "BREWLINE_RUN"
REAPER = "BREWLINE_REAPER"
# The end goes down the floors: the apps while their sidecars still answer, then those, then what they stand on.
SIDECARS = {"daprd"}
RECEIVER = "stack.otlp.receiver"
INFRASTRUCTURE = {"redis-server", "placement", "scheduler", "sentry", RECEIVER}
PATIENCE = 5.0


class Processes:
    """What one run has started: every process under the marker of the run's directory, with a log of its own."""

    def __init__(self, run: Path, *, logs: Path, cwd: Path) -> None:
        self.run = run.resolve()
        self.logs = logs
        self.cwd = cwd
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self.logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        # A session of its own: a Ctrl-C at the terminal reaches only who started it, and the end is ours to arrange.
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

    def wait_for(
        self, name: str, condition: Callable[[], bool], *, within: float, together: Sequence[str] = ()
    ) -> None:
        """Waits until the process does what it was started for. An error carries the end of the log of whoever ended,
        it or one of those that must live together with it."""

        ended: list[str] = []

        def there() -> bool:
            ended.extend(each for each in (name, *together) if self.started[each].poll() is not None)
            return bool(ended) or condition()

        try:
            wait_until(there, within=within, what=name)
        except LocalError as late:
            raise LocalError(f"{late}; {last_words(self.log(name))}") from None
        for each in ended:
            code = self.started[each].returncode
            raise LocalError(f"{each} ended with code {code}; {last_words(self.log(each))}")

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


@contextlib.contextmanager
def scratch_home(name: str) -> Generator[Path]:
    """A folder for a run's `var/` that is not kept. Whatever ends, no process of the run is left; one that is left at a
    good end is a failure."""
    with TemporaryDirectory(prefix=f"brewline-{name}-", dir=scratch()) as folder:
        home = Path(folder).resolve()
        run = home / "var"
        reaper = Reaper(run)
        try:
            yield home
            if left := survivors(run):
                raise AssertionError(f"left behind: {left}")
        finally:
            sweep(run)
            reaper.dismiss()


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
    for later in (SIDECARS | INFRASTRUCTURE, INFRASTRUCTURE):
        end_all([process for process in survivors(run) if name_of(process) not in later])
    while left := survivors(run):  # those below, and what any of them started in its last moments
        end_all(left)


def end_all(processes: Sequence[psutil.Process], *, patience: float = PATIENCE) -> None:
    """SIGTERM, and SIGKILL to those that still run when the patience is over."""
    if patience:
        signal_all(processes, signal.SIGTERM)
        await_end(processes, patience)
    signal_all(processes, signal.SIGKILL)
    await_end(processes, PATIENCE)


def signal_all(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def await_end(processes: Sequence[psutil.Process], patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(is_alive(process) for process in processes):
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    """A zombie is not: it may wait long for a busy parent to take note."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def name_of(process: psutil.Process) -> str:
    """Of the program; the receiver is a module of Python's."""
    try:
        return RECEIVER if RECEIVER in process.cmdline() else process.name()
    except psutil.Error:
        return ""


class Reaper:
    """Ends the run when this process dies in a way that lets it end nothing itself, SIGKILL included.

    A small process holds the other end of a pipe: the pipe closes with us, whatever happens. A new reaper relieves an
    earlier one of the same run, which would otherwise end what is started now.
    """

    def __init__(self, run: Path) -> None:
        run = run.resolve()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(REAPER) == str(run):
                    end_all([process], patience=0)
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "stack.processes", str(run)],
            env={**os.environ, REAPER: str(run)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """The run lives on without us, or is over."""
        pipe = cast("IO[bytes]", self._process.stdin)
        with contextlib.suppress(BrokenPipeError):
            pipe.write(b"dismissed")
            pipe.close()
        self._process.wait()


def reap(run: Path) -> None:
    """The reaper's own side."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() != b"dismissed":
        sweep(run)


if __name__ == "__main__":
    reap(Path(sys.argv[1]))
