"""This machine's Brewline: the apps that `dapr.yaml` names, on the ports of this run; how they are started, and found
again by another command."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from cli import vault
from cli.vault import HOME, ROOT, VAR
from stack import local, runfile
from stack.foundation import Foundation
from stack.processes import MARKER, belongs, survivors, sweep
from stack.sidecars import AppSpec, Ports, Stack

LOGS = VAR / "logs"
PROCESSES = VAR / "processes.json"


@dataclass(frozen=True, kw_only=True)
class App:
    """An entry of `dapr.yaml`, on the ports that this run gives it."""

    app_id: str
    port: int
    sidecar_port: int
    entry: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def ready(self) -> bool:
        return local.http_ok(f"http://{local.HOST}:{self.port}/health/ready")

    def spec(self, env: dict[str, str]) -> AppSpec:
        program, *words = self.entry["command"]
        return AppSpec(
            app_id=self.app_id,
            # As a path it is one from here, wherever this run's `var/` is.
            command=[str(ROOT / program) if "/" in program else program, *words],
            env=run_file()["common"].get("env", {}) | self.entry.get("env", {}) | env,
            known_as=f"localhost:{self.entry['appPort']}",
            ports=Ports(app=self.port, http=self.sidecar_port),
        )


# --- what is to run -------------------------------------------------------------------------------------------------


def run_file() -> dict[str, Any]:
    return runfile.parse((ROOT / "dapr.yaml").read_text())


def variable(app_id: str, what: str) -> str:
    """The environment variable that moves a port: `order-service` has ORDER_PORT and ORDER_SIDECAR_PORT."""
    return f"{app_id.removesuffix('-service').upper().replace('-', '_')}_{what}"


def port_of(name: str, usual: int) -> int:
    value = os.environ.get(name) or str(usual)
    if not value.isdigit():
        raise local.LocalError(f"{name}={value} is no port number")
    return int(value)


def apps() -> dict[str, App]:
    return {
        app_id: App(
            app_id=app_id,
            port=port_of(variable(app_id, "PORT"), entry["appPort"]),
            sidecar_port=port_of(variable(app_id, "SIDECAR_PORT"), entry["daprHTTPPort"]),
            entry=entry,
        )
        for entry in run_file()["apps"]
        for app_id in [entry["appID"]]
    }


def smtp_port() -> int:
    return port_of("SANDBOX_SMTP_PORT", 8025)


def foundation() -> Foundation:
    """Our own, on ports that nobody else expects anything on; on a port that is named, what runs there already."""
    names = {name: f"{name.upper()}_PORT" for name in ("redis", "placement", "scheduler")}
    ports = {name: port_of(named, 0) for name, named in names.items() if os.environ.get(named)}
    # No receiver of ours where the shell says that telemetry goes elsewhere.
    elsewhere = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return Foundation(**ports, traces=0 if elsewhere else port_of("TRACES_PORT", local.free_port()))


def check_ports() -> None:
    """Before anything is ended for the sake of a run that can't start."""
    wanted = {"SANDBOX_SMTP_PORT": smtp_port()}
    for app in apps().values():
        wanted[variable(app.app_id, "PORT")] = app.port
        wanted[variable(app.app_id, "SIDECAR_PORT")] = app.sidecar_port
    if "PONG" not in local.redis_says(redis := foundation().redis, "PING"):
        wanted["REDIS_PORT"] = redis
    names = {port: name for name, port in wanted.items()}
    ours = set(our_ports())
    for name, port in wanted.items():
        if names[port] != name:
            raise local.LocalError(f"port {port} is wanted twice: by {name} and by {names[port]}")
        if port not in ours:
            check_port(name, port)


def check_port(name: str, port: int) -> None:
    """Another program's outgoing connection may stand there for a moment; one that listens stays."""
    try:
        local.wait_until(lambda: local.port_is_free(port), within=2, what="")
    except local.LocalError:
        raise local.LocalError(f"port {port} is in use by another program: set {name} to a free one") from None


# --- what runs ------------------------------------------------------------------------------------------------------


def parts() -> dict[str, psutil.Process | None]:
    """Each process of the run by name; nothing in the place of one that has died."""
    known: dict[str, int] = json.loads(PROCESSES.read_text()) if PROCESSES.exists() else {}
    return {name: living(pid) for name, pid in known.items()}


def living(pid: int) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return process if belongs(process, VAR) else None
    return None


def given_to(app_id: str) -> dict[str, str]:
    """What an app that runs has in its environment and this process has not; its process id as APP_PID."""
    if app_id not in apps():
        raise local.LocalError(f"There is no app {app_id}, only {', '.join(apps())}")
    process = parts().get(app_id)
    if process is None:
        raise local.LocalError(f"{app_id} does not run here: `brewline up` starts it")
    own = {name: value for name, value in process.environ().items() if os.environ.get(name) != value}
    own.pop(MARKER, None)  # whoever carries it ends with the run: a shell and what it starts are not the run's
    return own | {"APP_PID": str(process.pid)}


def our_ports() -> Iterator[int]:
    for process in survivors(VAR):
        with contextlib.suppress(psutil.Error):
            yield from (each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN)


def dead() -> list[str]:
    return [name for name, process in parts().items() if process is None]


def all_ready() -> bool:
    present = parts()
    wanted = apps().values()
    return not dead() and all(app.app_id in present for app in wanted) and all(app.ready for app in wanted)


def end_everything() -> None:
    PROCESSES.unlink(missing_ok=True)  # first: whoever watches this run sees that it ends on purpose
    sweep(VAR)


# --- starting -------------------------------------------------------------------------------------------------------


def start() -> None:
    """Returns when every service is ready; raises `LocalError` when one can't be."""
    end_everything()
    for log in LOGS.glob("*.log"):
        log.replace(log.with_suffix(".log.old"))
    warn_of_forgetting((under := foundation()).redis)
    smtp = str(smtp_port())
    env = {"SANDBOX_SMTP_PORT": smtp, "NOTIFICATION_SMTP_PORT": smtp}
    if under.traces:
        env["BACKOFFICE_TRACES"] = f"receiver:http://{local.HOST}:{under.traces}"
    stack = Stack(
        apps=[app.spec(env) for app in apps().values()],
        components=ROOT / "components",
        run_dir=VAR,
        tools_bin=ROOT / "tools" / "bin",
        cwd=HOME,
        sidecar=run_file()["common"],
        foundation=under,
        secrets_file=vault.secrets_file(),
        tokens=vault.tokens(),
    )
    stack.start()
    PROCESSES.write_text(json.dumps(stack.pids()))


def warn_of_forgetting(redis: int) -> None:
    """Of a Redis that isn't ours."""
    if "PONG" in local.redis_says(redis, "PING") and "yes" not in local.redis_says(
        redis, "CONFIG", "GET", "appendonly"
    ):
        print(
            f"Warning: the Redis on port {redis} does not append to disk: what it holds is lost when it stops. "
            "`redis-cli config set appendonly yes` mends that."
        )
