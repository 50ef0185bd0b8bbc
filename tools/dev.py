"""Brewline on this machine: what `dapr.yaml` names, and a Redis, a placement and a scheduler of its own.

Ports are moved by environment: ORDER_PORT, ORDER_SIDECAR_PORT and so on for each app, SANDBOX_SMTP_PORT. REDIS_PORT,
PLACEMENT_PORT and SCHEDULER_PORT name one that runs already. BREWLINE_HOME is where `var/` is, this folder by default.
"""

import argparse
import contextlib
import fcntl
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Generator
from types import FrameType

import sample
import vault
from machine import LOGS, PROCESSES, App, all_ready, apps, check_ports, dead, end_everything, given_to, parts, start
from stack.local import LocalError, last_words
from stack.processes import Reaper
from vault import VAR

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Someone asked us to stop: Ctrl-C, SIGTERM, or the terminal closed."""


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
        end_everything()
        raise
    finally:
        reaper.dismiss()


def run() -> int:
    with contextlib.ExitStack() as stack:
        with starting():
            check_ports()
            if all_ready():
                print("Brewline already runs here; `make down` stops it.")
                return 1
            stack.enter_context(all_or_nothing())
            print("Starting Brewline …", flush=True)
            start()
        here = apps()
        sample.show(orders=here["order-service"].url, sandbox=here["sandbox"].url)
        show_addresses(here)
        print("\nCtrl-C stops it all.", flush=True)
        watch()
    print("Brewline was stopped from elsewhere.")
    return 0


def watch() -> None:
    """Stays until a part ends, until another command takes the run over, or until whoever started us is gone."""
    parent, ours = os.getppid(), PROCESSES.read_text()
    while os.getppid() == parent:
        if not PROCESSES.exists() or PROCESSES.read_text() != ours:
            return
        if ended := dead():
            raise LocalError(f"{', '.join(ended)} ended; {last_words(LOGS / f'{ended[0]}.log')}")
        time.sleep(1)
    raise Stopped


def up() -> int:
    with starting():
        check_ports()
        if all_ready():
            print("Brewline runs already.")
            return 0
        with all_or_nothing():
            print("Starting Brewline …", flush=True)
            start()
    show_addresses(apps())
    return 0


def down() -> int:
    end_everything()
    print("Brewline is stopped.")
    return 0


def status() -> int:
    """0 when everything is ready, 1 otherwise."""
    for name, process in parts().items():
        print(f"{name:32}{'ended' if process is None else f'process {process.pid}'}")
    for app in apps().values():
        print(f"{app.app_id:32}{'ready' if app.ready else 'not ready':12}{app.url}")
    return 0 if all_ready() else 1


def env(app_id: str) -> int:
    """For `eval`: what a plain `dapr run -f dapr.yaml` needs in its shell, or what an app of this run was given, for
    another process in its place."""
    vault.secrets_file()
    given = given_to(app_id) if app_id else vault.tokens()
    print("export", *(f"{name}={shlex.quote(value)}" for name, value in given.items()))
    return 0


def show_addresses(here: dict[str, App]) -> None:
    print()
    for app in here.values():
        print(f"{app.app_id:24}{app.url:28}sidecar http://localhost:{app.sidecar_port}")
    print(f"{'the inbox, for reading':24}{here['sandbox'].url}/sandbox/inbox")
    print(f"{'logs':24}{os.path.relpath(LOGS)}/")


def guarded(command: Callable[[], int]) -> int:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        return command()
    except Stopped:
        print("\nBrewline is stopped.")
        return 0 if command is run else 130
    except LocalError as error:
        print(f"Brewline: {error}", file=sys.stderr)
        return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="start everything, place one sample order, stay until Ctrl-C")
    commands.add_parser("up", help="start everything in the background; again from the start when something died")
    commands.add_parser("down", help="stop everything")
    commands.add_parser("status", help="what runs, and whether it is ready")
    shell = commands.add_parser("env", help="the tokens of sidecars and apps, for a shell to eval")
    shell.add_argument("app", nargs="?", default="", help="or all that this app was given, and its APP_PID")
    options = parser.parse_args()
    match options.command:
        case "run":
            return guarded(run)
        case "up":
            return guarded(up)
        case "down":
            return down()
        case "env":
            return guarded(lambda: env(options.app))
        case _:
            return status()


if __name__ == "__main__":
    sys.exit(main())
