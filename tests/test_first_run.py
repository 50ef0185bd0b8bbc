"""The first run, as it is typed: `make up` and `make down`, and `dapr run -f dapr.yaml`; beside a Brewline that may run
here, on other ports and with its data in a folder of its own."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from cli import machine, sample
from stack import components, local, runfile
from stack.foundation import Foundation
from stack.processes import Processes, scratch_home, survivors

ROOT = Path(__file__).resolve().parents[1]
TOOLS_BIN = ROOT / "tools" / "bin"
BREWLINE = ROOT / ".venv" / "bin" / "brewline"
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
        return self.brewline("up", **env)

    def brewline(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self._run(str(BREWLINE), *words, **env)

    def answered(self, *words: str) -> Any:
        """What a command says as JSON."""
        done = self.brewline(*words, "--json")
        assert done.returncode == 0, done.stderr or done.stdout
        return json.loads(done.stdout)

    def _run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.env | env, capture_output=True, text=True, check=False)

    def place_an_order(self) -> sample.Told:
        return sample.place(orders=self.url("ORDER"), sandbox=self.url("SANDBOX"))


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with scratch_home("first-run") as home:
        ports = {name: str(local.free_port()) for name in (*USUAL, "SANDBOX_SMTP_PORT")}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        yield Elsewhere(home=home, env=inherited | ports | {"BREWLINE_HOME": str(home)})


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


@pytest.mark.more
def test_the_command_line_shows_an_order_from_its_first_second_to_its_mail(elsewhere: Elsewhere):
    up = elsewhere.brewline("up")
    assert up.returncode == 0, up.stderr
    assert {part["state"] for part in elsewhere.answered("status")} == {"ready", "running"}
    assert [finding for finding in elsewhere.answered("doctor") if finding["mend"]] == []

    with subprocess.Popen([BREWLINE, "watch", "--json"], env=elsewhere.env, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        placed = elsewhere.answered("order")["order"]
        while not select.select([watching.stdout], [], [], 1)[0]:  # one is told what happens once one watches
            placed = elsewhere.answered("order")["order"]
        told = json.loads(watching.stdout.readline())
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=10) == 130
    assert told["status"] in {"pending_payment", "confirmed"}  # as it began to watch in the middle of one

    assert elsewhere.answered("orders", "--limit", "1")[0]["id"] == placed["id"]
    story = elsewhere.answered("why", "last")["story"]
    assert {moment["kind"] for moment in story} == {"step", "money", "message", "event", "log"}
    assert [moment["at"] for moment in story] == sorted(moment["at"] for moment in story)
    assert {"order-service", "payment-service", "notification-service"} <= {moment["service"] for moment in story}

    declined = elsewhere.brewline("order", "--card", "tok_declined")
    assert (declined.returncode, "402 payment-declined" in declined.stdout) == (1, True)
    (load,) = elsewhere.answered("load", "--rate", "10", "--for", "1")
    assert (load["orders"], load["201 confirmed"]) == (10, 10)
    assert elsewhere.answered("sagas", "--limit", "1")[0]["workflow"] == "fulfil_order"
    assert elsewhere.answered("dead-letters") == elsewhere.answered("replay", "--all") == []
    letter = dead_letter(elsewhere)
    replayed = elsewhere.brewline("replay", letter["id"], "--json")
    (told,) = json.loads(replayed.stdout)
    assert (replayed.returncode, told["letter"], told["outcome"] != "ok") == (1, letter["id"], True), told
    lines = [json.loads(line) for line in elsewhere.brewline("logs", "--json", "-s", "payment").stdout.splitlines()]
    assert {line["name"] for line in lines} == {"payment-service"}
    its_faults_are_named(elsewhere)
    assert elsewhere.brewline("down").returncode == 0


@pytest.mark.more
def test_run_shows_an_order_and_ctrl_c_stops_it_all(elsewhere: Elsewhere):
    with subprocess.Popen([BREWLINE, "run"], env=elsewhere.env, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        shown = ""
        for line in running.stdout:
            shown += line
            if line == "Ctrl-C stops it all.\n":
                break
        running.send_signal(signal.SIGINT)
        assert running.stdout.read() == "\nBrewline is stopped.\n"
    assert running.returncode == 0
    assert ": confirmed, " in shown
    assert survivors(elsewhere.home / "var") == []


def dead_letter(elsewhere: Elsewhere) -> dict[str, Any]:
    """Of an event whose version is none."""
    sidecar = f"http://localhost:{elsewhere.env['ORDER_SIDECAR_PORT']}"
    token = elsewhere.answered("env")["DAPR_API_TOKEN"]
    headers = {"dapr-api-token": token, "content-type": "application/cloudevents+json"}
    told = {"specversion": "1.0", "id": "e-1", "source": "tests", "type": "order.confirmed.v1", "data": {"version": -1}}
    httpx.post(f"{sidecar}/v1.0/publish/pubsub/orders", json=told, headers=headers).raise_for_status()
    local.wait_until(lambda: elsewhere.answered("dead-letters") != [], within=20, what="the letter")
    return elsewhere.answered("dead-letters")[0]


def its_faults_are_named(elsewhere: Elsewhere) -> None:
    with socket.create_server((local.HOST, 0)) as taken:
        port = str(taken.getsockname()[1])
        (order,) = order_processes(elsewhere)
        os.kill(order, signal.SIGKILL)
        ill = elsewhere.brewline("doctor", "--json", SANDBOX_SMTP_PORT=port)
    mends = {finding["what"]: finding["mend"] for finding in json.loads(ill.stdout) if finding["mend"]}
    assert ill.returncode == 1
    assert mends["services, sidecars, SMTP"].endswith("set SANDBOX_SMTP_PORT to a free one")
    assert mends["order-service"].startswith("`brewline logs --service order-service --sidecars` says why")
    assert mends.keys() == {"services, sidecars, SMTP", "order-service"}


def take_the_place_of_order(elsewhere: Elsewhere) -> subprocess.Popen[bytes]:
    """By the commands of docs/how-to/debug.md for whoever wants to see a service under a debugger, without that."""
    page = (ROOT / "docs/how-to/debug.md").read_text()
    _, _, commands = page.partition("make up\n")
    line = commands.partition("```")[0].replace("make -s", f"make -s -C {ROOT}")
    line = line.replace(".venv/bin/python -m pdb", f"exec {ROOT}/.venv/bin/python")
    (first,) = order_processes(elsewhere)
    with (elsewhere.home / "order.log").open("w") as log:
        other = subprocess.Popen(["bash", "-c", line], env=elsewhere.env, cwd=elsewhere.home, stdout=log, stderr=log)
    ready = f"{elsewhere.url('ORDER')}/health/ready"
    local.wait_until(
        lambda: first not in order_processes(elsewhere) and local.http_ok(ready), within=READY, what="the other"
    )
    return other


def order_processes(elsewhere: Elsewhere) -> list[int]:
    found = list[int]()
    for process in survivors(elsewhere.home / "var"):
        with suppress(psutil.NoSuchProcess):  # it ends while it is looked at
            found += [process.pid] if "order.main" in process.cmdline() else []
    return found


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
