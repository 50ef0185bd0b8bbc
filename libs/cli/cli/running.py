"""Starting and stopping what runs on this machine."""

import contextlib
import fcntl
import json
import os
import shlex
import signal
import time
from collections.abc import Generator

from cli import machine, sample, screen, vault
from cli.machine import LOGS, PROCESSES, App
from cli.signals import SIGNALS, Stopped
from cli.vault import VAR
from stack.local import LocalError, last_words
from stack.processes import Reaper


@contextlib.contextmanager
def starting() -> Generator[None]:
    """One start at a time in this folder: the second waits, and then finds it all running."""
    VAR.mkdir(parents=True, exist_ok=True)
    with (VAR / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def all_or_nothing() -> Generator[None]:
    """Nothing that is started in here outlives a failure, an interruption, or a violent end of ours."""
    reaper = Reaper(VAR)
    try:
        yield
    except BaseException:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        machine.end_everything()
        raise
    finally:
        reaper.dismiss()


def run() -> int:
    with contextlib.ExitStack() as stack:
        with starting():
            machine.check_ports()
            if machine.all_ready():
                print("Brewline already runs here; `brewline down` stops it.")
                return 1
            stack.enter_context(all_or_nothing())
            print("Starting Brewline …", flush=True)
            machine.start()
        here = machine.apps()
        sample.show(orders=here["order-service"].url, sandbox=here["sandbox"].url)
        show_addresses(here)
        print("\nCtrl-C stops it all.", flush=True)
        stay()
    print("Brewline was stopped from elsewhere.")
    return 0


def stay() -> None:
    """Until a part ends, until another command takes the run over, or until whoever started us is gone."""
    parent, ours = os.getppid(), PROCESSES.read_text()
    while os.getppid() == parent:
        if not PROCESSES.exists() or PROCESSES.read_text() != ours:
            return
        if ended := machine.dead():
            raise LocalError(f"{', '.join(ended)} ended; {last_words(LOGS / f'{ended[0]}.log')}")
        time.sleep(1)
    raise Stopped


def up() -> int:
    with starting():
        machine.check_ports()
        if machine.all_ready():
            print("Brewline runs already.")
            return 0
        with all_or_nothing():
            print("Starting Brewline …", flush=True)
            machine.start()
    show_addresses(machine.apps())
    return 0


def down() -> int:
    machine.end_everything()
    print("Brewline is stopped.")
    return 0


def status(*, as_json: bool) -> int:
    """0 when everything is ready, 1 otherwise."""
    parts = machine.parts()
    rows = [
        {
            "name": name,
            "process": process.pid if (process := parts.get(name)) else None,
            "state": state_of(app, running=process is not None),
            "url": app.url,
            "sidecar": f"http://localhost:{app.sidecar_port}",
        }
        for name, app in machine.apps().items()
    ]
    rows += [
        {"name": name, "process": process.pid if process else None, "state": "running" if process else "ended"}
        for name, process in parts.items()
        if name not in machine.apps()
    ]
    screen.rows(rows, as_json=as_json)
    return 0 if machine.all_ready() else 1


def state_of(app: App, *, running: bool) -> str:
    if app.ready:
        return "ready"
    return "not ready" if running else "not running"


def env(app_id: str, *, as_json: bool) -> int:
    """For `eval`: what a plain `dapr run -f dapr.yaml` needs in its shell, or what an app of this run was given, for
    another process in its place."""
    vault.secrets_file()
    given = machine.given_to(app_id) if app_id else vault.tokens()
    if as_json:
        print(json.dumps(given))
    else:
        print("export", *(f"{name}={shlex.quote(value)}" for name, value in given.items()))
    return 0


def show_addresses(here: dict[str, App]) -> None:
    print()
    for app in here.values():
        print(f"{app.app_id:24}{app.url:28}sidecar http://localhost:{app.sidecar_port}")
    pages = here["backoffice-service"].url
    print(f"{'the board':24}{pages}/")
    print(f"{'the console':24}{pages}/ops")
    print(f"{'the inbox, for reading':24}{here['sandbox'].url}/sandbox/inbox")
    print(f"{'logs':24}{os.path.relpath(LOGS)}/")
