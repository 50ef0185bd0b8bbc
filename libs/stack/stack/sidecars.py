"""Real sidecars for tests: Redis, placement, scheduler, and each app beside its own `daprd`, on free ports.

Nothing is shared with a run by hand or with another stack on the machine, not even names; nothing outlives it.
"""

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from types import TracebackType
from typing import Self

import psutil

from stack import components, local
from stack.processes import Processes, Reaper

# Generous: a test machine may be busy. A start takes about three seconds.
READY = 60.0
# Of the sidecars in a stack with mTLS: a policy names a caller's namespace too.
NAMESPACE = "brewline"


@dataclass(frozen=True, kw_only=True)
class AppSpec:
    """An app of the stack: `python -m module` with these additions to its environment.

    `known_as` is the address (`localhost:8009`) under which the components know the app; it is replaced there.
    `name` tells replicas apart: it is what the stack calls this one, where `app_id` is what its sidecar says.
    `secrets` is the app's own secret in the store `secrets`.
    """

    app_id: str
    module: str
    name: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    known_as: str | None = None
    live: str = "/health/live"
    ready: str = "/health/ready"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.app_id)


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
    `components/config.yaml` configures the sidecars, and over it what `config` names for an app. Whoever calls a
    sidecar shows `dapr_token` as `dapr-api-token`; a sidecar shows `app_token` to its app. With `mtls` the sidecars
    have certificates, so that policies know who calls. Logs are in `run_dir/logs`.
    """

    def __init__(
        self,
        *,
        apps: Sequence[AppSpec],
        components: Path,
        run_dir: Path,
        tools_bin: Path,
        config: Mapping[str, Path] | None = None,
        mtls: bool = False,
    ) -> None:
        self.apps = {spec.name: spec for spec in apps}
        self.run_dir = run_dir
        self.redis_port = local.free_port()
        self.app_token, self.dapr_token = token_urlsafe(), token_urlsafe()
        self._config = config or {}
        self._sentry = local.Sentry(port=local.free_port(), folder=run_dir / "sentry") if mtls else None
        self._components = components
        self._tools_bin = tools_bin
        self._ports = {spec.name: _Ports() for spec in apps}
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
        if self._sentry:
            self._start_sentry(self._sentry)
        self._start("placement", self._placement_command())
        self._start("scheduler", self._scheduler_command())
        self._await_redis()
        for name, port in (("placement", self._placement), ("scheduler", self._scheduler)):
            self._await_port(name, port)
        for name in self.apps:
            self._launch_sidecar(name)
            self._launch_app(name)
        for name in self.apps:
            self._await_sidecar(name)
            self._await_app(name)

    def stop(self) -> None:
        self._processes.end()
        self._reaper.dismiss()

    def heal(self) -> None:
        """Starts again what a test has left dead, so that the next one meets a whole stack."""
        if self._has_ended("redis"):
            self.start_redis()
        for name in self.apps:
            if self._has_ended(_sidecar(name)):
                self.start_sidecar(name)
            if self._has_ended(name):
                self.start_app(name)
        for name in self.apps:  # a living app may not have noticed yet that its sidecar is back
            self._await_app(name)

    # --- addresses, logs, memory ---

    def url(self, name: str) -> str:
        return f"http://{local.HOST}:{self._ports[name].app}"

    def sidecar_url(self, name: str) -> str:
        return f"http://{local.HOST}:{self._ports[name].http}"

    def app_env(self, name: str) -> dict[str, str]:
        """What the app is told: its ports as the dapr CLI tells them, the tokens, and what its spec adds, in which
        `{some-app}` is that app's URL."""
        spec, ports = self.apps[name], self._ports[name]
        told = {"APP_PORT": ports.app, "DAPR_HTTP_PORT": ports.http, "DAPR_GRPC_PORT": ports.grpc}
        numbers = {variable: str(port) for variable, port in told.items()}
        added = {variable: self._with_urls(value) for variable, value in spec.env.items()}
        return {"APP_ID": spec.app_id, **numbers, **self._tokens(), **added}

    def _with_urls(self, value: str) -> str:
        for app in self.apps:
            value = value.replace(f"{{{app}}}", self.url(app))
        return value

    def logs(self, name: str) -> str:
        """Everything the app has written since the stack began, over all its starts."""
        return self._processes.log(name).read_text(errors="replace")

    def memory(self) -> dict[str, int]:
        """Resident bytes of each running process, by name: the apps, `<app>.sidecar`, redis and so on."""
        return {name: process.memory_info().rss for name, process in self._running().items()}

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time of each running process since its start."""
        spent = {name: process.cpu_times() for name, process in self._running().items()}
        return {name: times.user + times.system for name, times in spent.items()}

    def _running(self) -> dict[str, psutil.Process]:
        alive = {name: one for name, one in self._processes.started.items() if not self._has_ended(name)}
        return {name: psutil.Process(one.pid) for name, one in alive.items()}

    # --- apps ---

    def kill_app(self, name: str) -> None:
        self._processes.stop(name, kill=True)

    def freeze_app(self, name: str) -> None:
        """SIGSTOP: it holds its connections and does nothing, until `thaw_app` or `kill_app`."""
        self._processes.started[name].send_signal(signal.SIGSTOP)

    def thaw_app(self, name: str) -> None:
        self._processes.started[name].send_signal(signal.SIGCONT)

    def start_app(self, name: str) -> None:
        """On the same ports as before; returns when it is ready."""
        self._launch_app(name)
        self._await_app(name)

    def kill_sidecar(self, name: str) -> None:
        self._processes.stop(_sidecar(name), kill=True)

    def start_sidecar(self, name: str) -> None:
        self._launch_sidecar(name)
        self._await_sidecar(name)

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
        held = {spec.app_id: dict(spec.secrets) for spec in self.apps.values() if spec.secrets}
        secrets = self.run_dir / "secrets.json"
        secrets.touch(mode=0o600)
        secrets.write_text(json.dumps({"redis": {"password": ""}} | held))
        addresses = {"localhost:6379": f"{local.HOST}:{self.redis_port}", local.SECRETS_FILE: str(secrets)}
        for name, spec in self.apps.items():
            if spec.known_as:
                addresses[spec.known_as] = f"{local.HOST}:{self._ports[name].app}"
        components.render(self._components, self.run_dir / "components", addresses=addresses)

    def _tokens(self) -> dict[str, str]:
        """Sidecar and app find both under these names, the one what it shows and the other what it asks for."""
        return {"APP_API_TOKEN": self.app_token, "DAPR_API_TOKEN": self.dapr_token}

    def _start_sentry(self, sentry: local.Sentry) -> None:
        config = self.run_dir / "components" / "config.yaml"
        self._start("sentry", local.sentry_command(self._program("sentry"), sentry, config=config))
        self._await_port("sentry", sentry.port)  # its certificates are there before it listens

    def _placement_command(self) -> list[str]:
        return local.placement_command(self._program("placement"), port=self._placement, sentry=self._sentry)

    def _scheduler_command(self) -> list[str]:
        data = self.run_dir / "scheduler"
        program = self._program("scheduler")
        return local.scheduler_command(program, port=self._scheduler, data=data, sentry=self._sentry)

    def _redis(self) -> list[str]:
        return local.redis_command(self._program("redis-server"), port=self.redis_port, data=self.run_dir / "redis")

    def _launch_app(self, name: str) -> None:
        self._start(name, [sys.executable, "-m", self.apps[name].module], self.app_env(name))

    def _launch_sidecar(self, name: str) -> None:
        spec, ports, resources = self.apps[name], self._ports[name], self.run_dir / "components"
        flags: dict[str, object] = {
            "app-id": spec.app_id,
            "app-port": ports.app,
            "dapr-http-port": ports.http,
            "dapr-grpc-port": ports.grpc,
            "dapr-internal-grpc-port": ports.internal,
            "dapr-internal-grpc-listen-address": local.HOST,
            "dapr-listen-addresses": local.HOST,
            "metrics-port": ports.metrics,
            "metrics-listen-address": local.HOST,
            "resources-path": resources,
            "placement-host-address": f"{local.HOST}:{self._placement}",
            "scheduler-host-address": f"{local.HOST}:{self._scheduler}",
            "app-health-check-path": spec.live,
            "app-health-probe-interval": 1,
            "app-health-probe-timeout": 900,
            "app-health-threshold": 3,
            "log-level": "warn",
        }
        words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
        for config in filter(None, (resources / "config.yaml", self._config.get(name))):  # what comes later prevails
            words += ["--config", str(config)]
        env = self._tokens()
        if self._sentry:
            words += ["--enable-mtls", "--sentry-address", self._sentry.address]
            env |= {"NAMESPACE": NAMESPACE, "DAPR_TRUST_ANCHORS": self._sentry.trust_anchors.read_text()}
        self._start(_sidecar(name), [self._program("daprd"), *words, "--enable-app-health-check"], env)

    def _await_port(self, name: str, port: int) -> None:
        self._processes.wait_for(name, lambda: local.answers(port), within=READY)

    def _await_redis(self) -> None:
        self._processes.wait_for("redis", lambda: "PONG" in local.redis_says(self.redis_port, "PING"), within=READY)

    def _await_app(self, name: str) -> None:
        ready = self.url(name) + self.apps[name].ready
        self._processes.wait_for(name, lambda: local.http_ok(ready), within=READY)

    def _await_sidecar(self, name: str) -> None:
        # Without its app a sidecar gets no further than calls going out.
        ready = self.sidecar_url(name) + "/v1.0/healthz" + ("/outbound" if self._has_ended(name) else "")
        self._processes.wait_for(_sidecar(name), lambda: local.http_ok(ready), within=READY)


def _sidecar(name: str) -> str:
    return f"{name}.sidecar"
