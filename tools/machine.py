"""This machine's Brewline: the apps that `dapr.yaml` names on the ports of this run, and how they are started.

What is committed is never changed: the dapr CLI reads copies with this run's addresses, in `var/run`.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
import yaml

import vault
from stack import components, local
from stack.processes import Processes, belongs, sweep

ROOT = Path(__file__).resolve().parent.parent
VAR = ROOT / "var"
DATA, LOGS, RUN = VAR / "data", VAR / "logs", VAR / "run"
PIDS = RUN / "pids"
TOOLS_BIN = ROOT / "tools" / "bin"
READY = 90.0


@dataclass(frozen=True, kw_only=True)
class App:
    """An entry of `dapr.yaml`, on the ports that this run gives it."""

    app_id: str
    port: int
    sidecar_port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def ready(self) -> bool:
        return local.http_ok(f"http://{local.HOST}:{self.port}/health/ready")


# --- what is to run -------------------------------------------------------------------------------------------------


def run_file() -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load((ROOT / "dapr.yaml").read_text()))


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
        )
        for entry in run_file()["apps"]
        for app_id in [entry["appID"]]
    }


def smtp_port() -> int:
    return port_of("SANDBOX_SMTP_PORT", 8025)


def check_ports() -> None:
    wanted = {"SANDBOX_SMTP_PORT": smtp_port()}
    for app in apps().values():
        wanted[variable(app.app_id, "PORT")] = app.port
        wanted[variable(app.app_id, "SIDECAR_PORT")] = app.sidecar_port
    for name, port in wanted.items():
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
    found: dict[str, psutil.Process | None] = {}
    for file in sorted(PIDS.glob("*.pid")):
        try:
            process = psutil.Process(int(file.read_text()))
            found[file.stem] = process if belongs(process, DATA) else None
        except (ValueError, psutil.Error):
            found[file.stem] = None
    return found


def dead() -> list[str]:
    return [name for name, process in parts().items() if process is None]


def all_ready() -> bool:
    present = parts()
    wanted = apps().values()
    return not dead() and all(app.app_id in present for app in wanted) and all(app.ready for app in wanted)


def end_everything() -> None:
    shutil.rmtree(PIDS, ignore_errors=True)  # first: whoever watches this run sees that it ends on purpose
    sweep(DATA)


def last_words(name: str) -> str:
    log = LOGS / f"{name}.log"
    return f"{log.relative_to(ROOT)} ends:\n{local.tail(log)}"


# --- starting -------------------------------------------------------------------------------------------------------


def start() -> None:
    """Returns when every service is ready; raises `LocalError` when one can't be."""
    end_everything()
    check_ports()
    for folder in (DATA, LOGS, RUN, PIDS):
        folder.mkdir(parents=True, exist_ok=True)
    for log in LOGS.glob("*.log"):
        log.replace(log.with_suffix(".log.old"))
    processes = Processes(DATA, logs=LOGS, cwd=ROOT)
    redis, placement, scheduler = start_redis(processes), start_placement(processes), start_scheduler(processes)
    render(redis=redis, placement=placement, scheduler=scheduler)
    launch(
        processes,
        "dapr",
        [local.need_program("dapr", TOOLS_BIN), "run", "-f", RUN / "dapr.yaml"],
        # The CLI hands its environment on, so sidecars and apps have the same tokens.
        {"DAPR_RUNTIME_PATH": str(RUN / "runtime"), "NOTIFICATION_SMTP_PORT": str(smtp_port()), **vault.tokens()},
    )
    for app in apps().values():
        await_app(app)


def launch(processes: Processes, name: str, command: list[str | Path], env: dict[str, str] | None = None) -> None:
    processes.start(name, command, env)
    process = psutil.Process(processes.started[name].pid)
    # Until the kernel has finished its exec (a cold program: for a moment) nothing tells that it is ours.
    processes.wait_for(name, lambda: belongs(process, DATA), within=READY)
    (PIDS / f"{name}.pid").write_text(str(process.pid))


def await_app(app: App) -> None:
    def broken() -> str | None:
        ended = dead()
        return f"can't start: {ended[0]} ended; {last_words(ended[0])}" if ended else None

    try:
        local.wait_until(lambda: app.ready, within=READY, what=app.app_id, broken=broken)
    except local.LocalError as error:
        hint = "" if dead() else f"; {last_words(app.app_id)}"
        raise local.LocalError(f"{error}{hint}\nEvery log is in {LOGS.relative_to(ROOT)}/.") from None


def own_port(name: str) -> int:
    """Ours stands apart from what others expect on the usual port, unless it was asked for there."""
    if not os.environ.get(name):
        return local.free_port()
    port = port_of(name, 0)
    check_port(name, port)
    return port


def start_redis(processes: Processes) -> int:
    found = port_of("REDIS_PORT", 6379)
    if "PONG" in local.redis_says(found, "PING"):
        if "yes" not in local.redis_says(found, "CONFIG", "GET", "appendonly"):
            print(
                f"Warning: the Redis on port {found} does not append to disk: what it holds is lost when it stops. "
                "`redis-cli config set appendonly yes` mends that, REDIS_PORT takes another."
            )
        return found
    port = own_port("REDIS_PORT")
    program = local.need_program("redis-server", TOOLS_BIN)
    launch(processes, "redis", [*local.redis_command(program, port=port, data=DATA / "redis")])
    processes.wait_for("redis", lambda: "PONG" in local.redis_says(port, "PING"), within=30)
    return port


def start_placement(processes: Processes) -> int:
    if local.answers(found := port_of("PLACEMENT_PORT", 50005)):
        return found
    port = own_port("PLACEMENT_PORT")
    launch(processes, "placement", [*local.placement_command(local.need_program("placement", TOOLS_BIN), port=port)])
    processes.wait_for("placement", lambda: local.answers(port), within=30)
    return port


def start_scheduler(processes: Processes) -> int:
    if local.answers(found := port_of("SCHEDULER_PORT", 50006)):
        return found
    port, program = own_port("SCHEDULER_PORT"), local.need_program("scheduler", TOOLS_BIN)
    launch(processes, "scheduler", [*local.scheduler_command(program, port=port, data=DATA / "scheduler")])
    processes.wait_for("scheduler", lambda: local.answers(port), within=30)
    return port


# Both step aside for the program they start, so that its process id is the one noted.
APP_SCRIPT = """#!/bin/sh
echo $$ >'{pids}'/"$APP_ID".pid
cd '{root}' && exec "$@" >>'{logs}'/"$APP_ID".log 2>&1
"""
# The dapr CLI has no way to say these flags, and its own log files are hidden in a folder per app. It asks for the
# version first.
SIDECAR_SCRIPT = """#!/bin/sh
for word; do [ "$last" = --app-id ] && app=$word; last=$word; done
[ "$app" ] || exec '{daprd}' "$@"
echo $$ >'{pids}'/"$app".sidecar.pid
exec '{daprd}' "$@" --dapr-internal-grpc-listen-address {host} --metrics-listen-address {host} \\
  >>'{logs}'/"$app".sidecar.log 2>&1
"""


def render(*, redis: int, placement: int, scheduler: int) -> None:
    """Writes into `var/run` what the dapr CLI reads: this run's addresses in the files that are committed."""
    here = apps()
    addresses = {"localhost:6379": f"{local.HOST}:{redis}", local.SECRETS_FILE: str(vault.secrets_file())}
    file = run_file()
    for entry in file["apps"]:
        app = here[entry["appID"]]
        addresses[f"localhost:{entry['appPort']}"] = f"{local.HOST}:{app.port}"
        entry |= {"appPort": app.port, "daprHTTPPort": app.sidecar_port, "appDirPath": str(RUN)}
        entry["command"] = [str(RUN / "app"), *entry["command"]]
    for entry in file["apps"]:
        entry["env"] = {name: readdressed(value, addresses) for name, value in entry.get("env", {}).items()}
    components.render(ROOT / "components", RUN / "components", addresses=addresses)
    file["common"] |= {
        "resourcesPath": str(RUN / "components"),
        "configFilePath": str(RUN / "components" / "config.yaml"),
        "placementHostAddress": f"{local.HOST}:{placement}",
        "schedulerHostAddress": f"{local.HOST}:{scheduler}",
        "appLogDestination": "console",
        "daprdLogDestination": "console",
    }
    (RUN / "dapr.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    daprd = local.need_program("daprd", TOOLS_BIN)
    values = {"pids": PIDS, "root": ROOT, "logs": LOGS, "daprd": daprd, "host": local.HOST}
    write_script(RUN / "app", APP_SCRIPT.format(**values))
    # The CLI takes daprd from here, and wants these two to exist although the run file names others.
    runtime = RUN / "runtime" / ".dapr"
    write_script(runtime / "bin" / "daprd", SIDECAR_SCRIPT.format(**values))
    (runtime / "components").mkdir(exist_ok=True)
    (runtime / "config.yaml").touch()


def readdressed(value: str, addresses: dict[str, str]) -> str:
    for usual, moved in addresses.items():
        value = value.replace(usual, moved)
    return value


def write_script(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
