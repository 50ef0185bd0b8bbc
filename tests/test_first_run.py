"""The first run, as it is typed: `make up` and `make down`, and `dapr run -f dapr.yaml`; beside a Brewline that may run
here, on other ports and with its data in a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

import machine
import sample
from stack import components, local, runfile
from stack.foundation import Foundation
from stack.processes import Processes, Reaper, survivors, sweep

ROOT = Path(__file__).resolve().parents[1]
TOOLS_BIN = ROOT / "tools" / "bin"
READY = 90
USUAL = {machine.variable(app_id, "PORT"): app.port for app_id, app in machine.apps().items()} | {
    machine.variable(app_id, "SIDECAR_PORT"): app.sidecar_port for app_id, app in machine.apps().items()
}


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """`home` is where its `var/` is; `env` says so, and names the ports."""

    home: Path
    env: dict[str, str]

    def url(self, app: str) -> str:
        return f"http://localhost:{self.env[f'{app}_PORT']}"

    def make(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self._run("make", "--silent", "--directory", str(ROOT), *words, **env)

    def up_again(self, **env: str) -> subprocess.CompletedProcess[str]:
        """What `make up` does once everything is set up."""
        return self._run(sys.executable, str(ROOT / "tools" / "dev.py"), "up", **env)

    def _run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.env | env, capture_output=True, text=True, check=False)

    def place_an_order(self) -> sample.Told:
        return sample.place(orders=self.url("ORDER"), sandbox=self.url("SANDBOX"))


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with TemporaryDirectory(prefix="brewline-first-run-", dir=local.scratch()) as folder:
        home = Path(folder).resolve()
        ports = {name: str(local.free_port()) for name in (*USUAL, "SANDBOX_SMTP_PORT")}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        reaper = Reaper(home / "var")
        try:
            yield Elsewhere(home=home, env=inherited | ports | {"BREWLINE_HOME": str(home)})
            assert survivors(home / "var") == []
        finally:
            sweep(home / "var")
            reaper.dismiss()


@pytest.mark.integration
def test_make_up_serves_orders_and_make_down_leaves_nothing(elsewhere: Elsewhere):
    up = elsewhere.make("up")

    assert up.returncode == 0, up.stderr
    told = elsewhere.place_an_order()
    assert told.order["status"] == "confirmed"
    assert told.mail is not None

    with socket.create_server((local.HOST, 0)) as taken:
        refused = elsewhere.up_again(ORDER_PORT=str(taken.getsockname()[1]))
    assert refused.returncode != 0
    assert "is in use by another program: set ORDER_PORT to a free one" in refused.stderr
    twice = elsewhere.up_again(ORDER_PORT=elsewhere.env["PAYMENT_PORT"])
    assert "is wanted twice: by PAYMENT_PORT and by ORDER_PORT" in twice.stderr
    assert elsewhere.up_again().stdout == "Brewline runs already.\n"

    other = take_the_place_of_order(elsewhere)
    assert elsewhere.place_an_order().order["status"] == "confirmed"

    assert elsewhere.make("down").returncode == 0
    assert other.poll() is None  # it is no part of the run, and nor is the shell that it was started from
    other.terminate()
    other.wait(timeout=10)


def take_the_place_of_order(elsewhere: Elsewhere) -> subprocess.Popen[bytes]:
    """As CONTRIBUTING.md tells whoever wants to see a service under a debugger."""
    line = f"""
        eval "$(make --silent --directory {ROOT} env APP=order-service)"
        kill -9 "$APP_PID"
        exec {ROOT}/.venv/bin/python -m order.main"""
    (first,) = order_processes(elsewhere)
    with (elsewhere.home / "order.log").open("w") as log:
        other = subprocess.Popen(["bash", "-c", line], env=elsewhere.env, cwd=elsewhere.home, stdout=log, stderr=log)
    ready = f"{elsewhere.url('ORDER')}/health/ready"
    local.wait_until(
        lambda: first not in order_processes(elsewhere) and local.http_ok(ready), within=READY, what="the other"
    )
    return other


def order_processes(elsewhere: Elsewhere) -> list[int]:
    running = survivors(elsewhere.home / "var")
    return [process.pid for process in running if "order.main" in process.cmdline()]


@pytest.fixture
def initialised(elsewhere: Elsewhere) -> Iterator[Processes]:
    """What `dapr init` leaves: Redis, placement and scheduler that run, and daprd in its place."""
    run = Processes(elsewhere.home / "var", logs=elsewhere.home / "var" / "logs", cwd=elsewhere.home)
    under = Foundation()
    for name, part in under.parts(
        elsewhere.home / "var", lambda name: local.need_program(name, TOOLS_BIN), None
    ).items():
        run.start(name, part.command())
        run.wait_for(name, part.serves, within=READY)
    copy_with_ports(elsewhere, under)
    runtime = elsewhere.home / ".dapr"
    (runtime / "bin").mkdir(parents=True)
    (runtime / "components").mkdir()
    (runtime / "config.yaml").touch()
    (runtime / "bin" / "daprd").symlink_to(local.need_program("daprd", TOOLS_BIN))
    yield run
    run.end()


def copy_with_ports(elsewhere: Elsewhere, under: Foundation) -> None:
    """The committed files with the numbers of this test's ports in them; all else as it is."""
    addresses = {f"localhost:{usual}": f"localhost:{elsewhere.env[name]}" for name, usual in USUAL.items()}
    addresses["localhost:6379"] = f"localhost:{under.redis}"
    keys = {f"Port: {usual}": f"Port: {elsewhere.env[name]}" for name, usual in USUAL.items()}
    file = runfile.parse(components.readdressed((ROOT / "dapr.yaml").read_text(), addresses | keys))
    # dapr init's own ports are the CLI's default, and maybe someone's here.
    file["common"] |= {
        "placementHostAddress": f"localhost:{under.placement}",
        "schedulerHostAddress": f"localhost:{under.scheduler}",
    }
    (elsewhere.home / "dapr.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    shutil.copytree(ROOT / "components", elsewhere.home / "components")
    for copied in (elsewhere.home / "components").glob("*.yaml"):
        copied.write_text(components.readdressed(copied.read_text(), addresses))
    (elsewhere.home / ".venv").symlink_to(ROOT / ".venv")


# The dapr CLI takes minutes to build, and nobody else here needs it.
@pytest.mark.more
def test_dapr_run_serves_an_order_and_ends_with_its_cli(elsewhere: Elsewhere, initialised: Processes):
    cli = local.need_program("dapr", TOOLS_BIN)
    line = f'eval "$(make --silent --directory {ROOT} env)"; exec {cli} run -f dapr.yaml'
    smtp = elsewhere.env["SANDBOX_SMTP_PORT"]
    runtime = {"DAPR_RUNTIME_PATH": str(elsewhere.home), "NOTIFICATION_SMTP_PORT": smtp}
    below = {process.pid for process in survivors(elsewhere.home / "var")}
    initialised.start("dapr", ["bash", "-c", line], elsewhere.env | runtime)
    for app in ("SANDBOX", "PAYMENT", "NOTIFICATION", "ORDER"):
        ready = f"{elsewhere.url(app)}/health/ready"
        initialised.wait_for("dapr", lambda ready=ready: local.http_ok(ready), within=READY)

    told = elsewhere.place_an_order()

    assert told.order["status"] == "confirmed"
    assert told.mail is not None
    os.kill(initialised.started["dapr"].pid, signal.SIGINT)
    local.wait_until(
        lambda: {process.pid for process in survivors(elsewhere.home / "var")} == below, within=30, what="the end"
    )
