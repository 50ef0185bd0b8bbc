"""Real sidecars for tests: Redis, placement, scheduler, and each app beside its own `daprd`, on free ports.

Nothing is shared with a run by hand or with another stack on the machine, not even names; nothing outlives it.
"""

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from chassis import local
from chassis.processes import Processes, Reaper

# Generous: a test machine may be busy. A start takes about three seconds.
READY = 60.0


@dataclass(frozen=True, kw_only=True)
class AppSpec:
    """An app of the stack: `python -m module` with these additions to its environment.

    `known_as` is the address (`localhost:8009`) under which the components know the app; it is replaced there.
    """

    app_id: str
    module: str
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    known_as: str | None = None
    live: str = "/health/live"
    ready: str = "/health/ready"


@dataclass(frozen=True, kw_only=True)
class _Ports:
    app: int = field(default_factory=local.free_port)
    http: int = field(default_factory=local.free_port)
    grpc: int = field(default_factory=local.free_port)
    internal: int = field(default_factory=local.free_port)
    metrics: int = field(default_factory=local.free_port)


class Stack:
    """Starts when entered and ends, every process of it, when left.

    `components` is copied with this stack's addresses, so that the files under test are the ones that are shipped;
    `components/config.yaml` configures the sidecars. Logs are in `run_dir/logs`.
    """

    def __init__(self, *, apps: Sequence[AppSpec], components: Path, run_dir: Path, tools_bin: Path) -> None:
        self.apps = {spec.app_id: spec for spec in apps}
        self.run_dir = run_dir
        self.redis_port = local.free_port()
        self._components = components
        self._tools_bin = tools_bin
        self._ports = {spec.app_id: _Ports() for spec in apps}
        self._placement = local.free_port()
        self._scheduler = local.free_port()
        self._processes = Processes(run_dir, logs=run_dir / "logs", cwd=run_dir)

    # --- as a whole ---

    def __enter__(self) -> Self:
        self._reaper = Reaper(self.run_dir)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._render()
        self._start("redis", self._redis())
        self._start("placement", local.placement_command(self._program("placement"), port=self._placement))
        data = self.run_dir / "scheduler"
        self._start("scheduler", local.scheduler_command(self._program("scheduler"), port=self._scheduler, data=data))
        self._await_redis()
        for name, port in (("placement", self._placement), ("scheduler", self._scheduler)):
            self._await_port(name, port)
        for app_id in self.apps:
            self._launch_sidecar(app_id)
            self._launch_app(app_id)
        for app_id in self.apps:
            self._await_sidecar(app_id)
            self._await_app(app_id)

    def stop(self) -> None:
        self._processes.end()
        self._reaper.dismiss()

    def heal(self) -> None:
        """Starts again what a test has left dead, so that the next one meets a whole stack."""
        if self._has_ended("redis"):
            self.start_redis()
        for app_id in self.apps:
            if self._has_ended(_sidecar(app_id)):
                self.start_sidecar(app_id)
            if self._has_ended(app_id):
                self.start_app(app_id)
        for app_id in self.apps:  # a living app may not have noticed yet that its sidecar is back
            self._await_app(app_id)

    # --- addresses, logs, memory ---

    def url(self, app_id: str) -> str:
        return f"http://{local.HOST}:{self._ports[app_id].app}"

    def sidecar_url(self, app_id: str) -> str:
        return f"http://{local.HOST}:{self._ports[app_id].http}"

    def app_env(self, app_id: str) -> dict[str, str]:
        """What the app is told: its ports as the dapr CLI tells them, and what its spec adds."""
        ports = self._ports[app_id]
        told = {"APP_ID": app_id, "APP_PORT": ports.app, "DAPR_HTTP_PORT": ports.http, "DAPR_GRPC_PORT": ports.grpc}
        return {name: str(value) for name, value in told.items()} | dict(self.apps[app_id].env)

    def logs(self, app_id: str) -> str:
        """Everything the app has written since the stack began, over all its starts."""
        return self._processes.log(app_id).read_text(errors="replace")

    def memory(self) -> dict[str, int]:
        """Resident bytes of each running process, by name: the app ids, `<app id>.sidecar`, redis and so on."""
        return {name: process.memory_info().rss for name, process in self._running().items()}

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time of each running process since its start."""
        spent = {name: process.cpu_times() for name, process in self._running().items()}
        return {name: times.user + times.system for name, times in spent.items()}

    def _running(self) -> dict[str, psutil.Process]:
        alive = {name: one for name, one in self._processes.started.items() if not self._has_ended(name)}
        return {name: psutil.Process(one.pid) for name, one in alive.items()}

    # --- apps ---

    def kill_app(self, app_id: str) -> None:
        self._processes.stop(app_id, kill=True)

    def freeze_app(self, app_id: str) -> None:
        """SIGSTOP: it holds its connections and does nothing, until `thaw_app` or `kill_app`."""
        self._processes.started[app_id].send_signal(signal.SIGSTOP)

    def thaw_app(self, app_id: str) -> None:
        self._processes.started[app_id].send_signal(signal.SIGCONT)

    def start_app(self, app_id: str) -> None:
        """On the same ports as before; returns when it is ready."""
        self._launch_app(app_id)
        self._await_app(app_id)

    def kill_sidecar(self, app_id: str) -> None:
        self._processes.stop(_sidecar(app_id), kill=True)

    def start_sidecar(self, app_id: str) -> None:
        self._launch_sidecar(app_id)
        self._await_sidecar(app_id)

    # --- redis ---

    def stop_redis(self, *, kill: bool = False) -> None:
        self._processes.stop("redis", kill=kill)

    def start_redis(self) -> None:
        """On the same port and the same data."""
        self._start("redis", self._redis())
        self._await_redis()

    # --- how ---

    def _program(self, name: str) -> Path:
        return local.need_program(name, self._tools_bin)

    def _start(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        self._processes.start(name, command, env)

    def _has_ended(self, name: str) -> bool:
        return self._processes.started[name].poll() is not None

    def _render(self) -> None:
        addresses = {"localhost:6379": f"{local.HOST}:{self.redis_port}"}
        for app_id, spec in self.apps.items():
            if spec.known_as:
                addresses[spec.known_as] = f"{local.HOST}:{self._ports[app_id].app}"
        local.render(self._components, self.run_dir / "components", addresses=addresses)

    def _redis(self) -> list[str]:
        return local.redis_command(self._program("redis-server"), port=self.redis_port, data=self.run_dir / "redis")

    def _launch_app(self, app_id: str) -> None:
        self._start(app_id, [sys.executable, "-m", self.apps[app_id].module], self.app_env(app_id))

    def _launch_sidecar(self, app_id: str) -> None:
        spec, ports, resources = self.apps[app_id], self._ports[app_id], self.run_dir / "components"
        flags: dict[str, object] = {
            "app-id": app_id,
            "app-port": ports.app,
            "dapr-http-port": ports.http,
            "dapr-grpc-port": ports.grpc,
            "dapr-internal-grpc-port": ports.internal,
            "dapr-internal-grpc-listen-address": local.HOST,
            "dapr-listen-addresses": local.HOST,
            "metrics-port": ports.metrics,
            "metrics-listen-address": local.HOST,
            "resources-path": resources,
            "config": resources / "config.yaml",
            "placement-host-address": f"{local.HOST}:{self._placement}",
            "scheduler-host-address": f"{local.HOST}:{self._scheduler}",
            "app-health-check-path": spec.live,
            "app-health-probe-interval": 1,
            "app-health-probe-timeout": 900,
            "app-health-threshold": 3,
            "log-level": "warn",
        }
        words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
        self._start(_sidecar(app_id), [self._program("daprd"), *words, "--enable-app-health-check"])

    def _await_port(self, name: str, port: int) -> None:
        self._processes.wait_for(name, lambda: local.answers(port), within=READY)

    def _await_redis(self) -> None:
        self._processes.wait_for("redis", lambda: "PONG" in local.redis_says(self.redis_port, "PING"), within=READY)

    def _await_app(self, app_id: str) -> None:
        ready = self.url(app_id) + self.apps[app_id].ready
        self._processes.wait_for(app_id, lambda: local.http_ok(ready), within=READY)

    def _await_sidecar(self, app_id: str) -> None:
        # Without its app a sidecar gets no further than calls going out.
        ready = self.sidecar_url(app_id) + "/v1.0/healthz" + ("/outbound" if self._has_ended(app_id) else "")
        self._processes.wait_for(_sidecar(app_id), lambda: local.http_ok(ready), within=READY)


def _sidecar(app_id: str) -> str:
    return f"{app_id}.sidecar"
